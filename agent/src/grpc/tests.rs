//! The service without a network: a model that answers with its inputs, in both forms.

use tidegate_wire::manifest::{Manifest, Task};
use tidegate_wire::policy::Gates;
use tidegate_wire::tensor::{Datatype, TensorSpec};
use tokio::sync::mpsc;
use tonic::Code;

use super::inference::infer_parameter::ParameterChoice;
use super::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use super::*;
use crate::engine::{Engine, EngineError, Tensor};
use crate::serving::LoadedModel;

/// Answers with its inputs.
struct Echo(Vec<TensorSpec>);

impl Engine for Echo {
    fn inputs(&self) -> &[TensorSpec] {
        &self.0
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.0
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        Ok(inputs.to_vec())
    }
}

fn service() -> Service {
    let spec = |name: &str, datatype| TensorSpec {
        name: name.to_string(),
        datatype,
        shape: vec![-1, 2],
        labels: vec!["no".to_string(), "yes".to_string()],
        limits: None,
    };
    let specs = vec![spec("x", Datatype::Fp32), spec("s", Datatype::Bytes)];
    let manifest = Manifest {
        model: "echo".parse().unwrap(),
        version: "1".parse().unwrap(),
        engine: "any".to_string(),
        task: Task::Regression,
        files: vec![],
        inputs: specs.clone(),
        outputs: specs.clone(),
        gates: Gates::default(),
        humility: vec![],
        window_rows: 100,
    };
    let serving = Serving::new(mpsc::channel(8).0, 1);
    let model = manifest.model.clone();
    let loaded = LoadedModel::with_engine(Box::new(Echo(specs)), manifest);
    serving.activate(&model, Arc::new(loaded));
    Service { serving, facts: Facts::default() }
}

const RAW_NUMBERS: &[u8] = &[0, 0, 128, 63, 0, 0, 0, 64];
const RAW_STRINGS: &[u8] = b"\x02\0\0\0ab\0\0\0\0";

fn input(name: &str, datatype: &str, contents: Option<InferTensorContents>) -> InferInputTensor {
    let (name, datatype) = (name.to_string(), datatype.to_string());
    InferInputTensor { name, datatype, shape: vec![1, 2], contents, ..Default::default() }
}

fn raw() -> ModelInferRequest {
    ModelInferRequest {
        model_name: "echo".to_string(),
        id: "7".to_string(),
        inputs: vec![input("s", "BYTES", None), input("x", "FP32", None)],
        raw_input_contents: vec![RAW_STRINGS.into(), RAW_NUMBERS.into()],
        ..Default::default()
    }
}

fn typed() -> ModelInferRequest {
    let fp32_contents = vec![1.0, 2.0];
    let numbers = InferTensorContents { fp32_contents, ..Default::default() };
    let bytes_contents = vec!["ab".into(), "".into()];
    let strings = InferTensorContents { bytes_contents, ..Default::default() };
    let inputs = vec![input("x", "FP32", Some(numbers)), input("s", "BYTES", Some(strings))];
    ModelInferRequest { inputs, raw_input_contents: vec![], ..raw() }
}

async fn ask(service: &Service, request: ModelInferRequest) -> Result<ModelInferResponse, Status> {
    service.model_infer(Request::new(request)).await.map(Response::into_inner)
}

fn parameter(name: &str, number: i64) -> std::collections::HashMap<String, InferParameter> {
    let parameter_choice = Some(ParameterChoice::Int64Param(number));
    [(name.to_string(), InferParameter { parameter_choice })].into()
}

#[tokio::test]
async fn answers_come_in_the_form_of_the_question() {
    let service = service();
    let answer = ask(&service, raw()).await.unwrap();
    assert_eq!((answer.id.as_str(), answer.model_version.as_str()), ("7", "1"));
    assert_eq!(answer.raw_output_contents, [RAW_NUMBERS, RAW_STRINGS]);
    assert!(answer.outputs.iter().all(|output| output.contents.is_none()));
    let answer = ask(&service, typed()).await.unwrap();
    let contents = |place: usize| answer.outputs[place].contents.as_ref().unwrap();
    assert_eq!(contents(0).fp32_contents, [1.0, 2.0]);
    assert_eq!(contents(1).bytes_contents, ["ab", ""]);
    assert!(answer.raw_output_contents.is_empty());
}

#[tokio::test]
async fn outputs_are_selected_and_classes_counted() {
    let service = service();
    let name = "x".to_string();
    let parameters = parameter("classification", 1);
    let outputs = vec![InferRequestedOutputTensor { name, parameters }];
    let answer = ask(&service, ModelInferRequest { outputs, ..typed() }).await.unwrap();
    let [output] = answer.outputs.as_slice() else { panic!("{answer:?}") };
    assert_eq!((output.datatype.as_str(), &*output.shape), ("BYTES", &[1, 1][..]));
    assert_eq!(output.contents.as_ref().unwrap().bytes_contents, ["2:1:yes"]);
}

#[tokio::test]
async fn errors_have_codes_and_the_words_of_http() {
    let service = service();
    let mut short = raw();
    short.raw_input_contents.pop();
    let mut both = raw();
    both.inputs[0].contents = Some(InferTensorContents::default());
    let mut neither = typed();
    neither.inputs[0].contents = None;
    let other = ModelInferRequest { model_name: "cats".to_string(), ..raw() };
    let version = ModelInferRequest { model_version: "2".to_string(), ..raw() };
    let late = ModelInferRequest { parameters: parameter("timeout", 1), ..raw() };
    let table = [
        (short, Code::InvalidArgument, "1 tensors, but there are 2 inputs"),
        (both, Code::InvalidArgument, "\"s\": both contents"),
        (neither, Code::InvalidArgument, "\"x\": neither contents"),
        (other, Code::NotFound, "no model \"cats\""),
        (version, Code::NotFound, "no version \"2\""),
        (late, Code::DeadlineExceeded, "deadline"),
    ];
    for (request, code, words) in table {
        let status = ask(&service, request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(words), "{status}");
    }
    let counted = service.serving.metrics().encode();
    assert!(counted.contains("tidegate_bad_requests_total 5"), "{counted}");
    service.serving.announce(&"dogs".parse().unwrap());
    let soon = ModelInferRequest { model_name: "dogs".to_string(), ..raw() };
    let status = ask(&service, soon).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.metadata().get("retry-after").unwrap(), "5");
}

#[tokio::test]
async fn it_describes_itself_and_loads_nothing() {
    let service = service();
    let asked = ModelReadyRequest { name: "echo".to_string(), version: String::new() };
    let other = ModelReadyRequest { name: "echo".to_string(), version: "2".to_string() };
    for (asked, expected) in [(asked, true), (other, false)] {
        let ready = service.model_ready(Request::new(asked)).await.unwrap().into_inner();
        assert_eq!(ready.ready, expected);
    }
    ask(&service, raw()).await.unwrap();
    let all = Request::new(ModelStatisticsRequest::default());
    let stats = service.model_statistics(all).await.unwrap().into_inner().model_stats;
    assert_eq!((stats.len(), stats[0].inference_count), (1, 1));
    let index = Request::new(RepositoryIndexRequest::default());
    let index = service.repository_index(index).await.unwrap().into_inner().models;
    assert_eq!((index[0].name.as_str(), index[0].state.as_str()), ("echo", "READY"));
    let name = "echo".to_string();
    let config = ModelConfigRequest { name, version: String::new() };
    let config = service.model_config(Request::new(config)).await.unwrap().into_inner();
    let config = config.config.unwrap();
    assert_eq!(config.input[0].data_type(), DataType::TypeFp32);
    assert_eq!(
        (config.input[1].data_type(), &*config.input[1].dims),
        (DataType::TypeString, &[2][..])
    );
    let load = Request::new(RepositoryModelLoadRequest::default());
    let status = service.repository_model_load(load).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::PermissionDenied, NO_LOADING));
}
