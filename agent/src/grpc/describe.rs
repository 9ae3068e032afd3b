//! What the server and its models say about themselves.

use tidegate_wire::tensor::TensorSpec;

use super::inference::model_metadata_response::TensorMetadata;
use super::inference::repository_index_response::ModelIndex;
use super::inference::*;
use crate::http::Facts;
use crate::protocol::{self, ApiError, EXTENSIONS, SERVER_NAME};
use crate::serving::{Batches, Readiness, Serving, Statistics, Timed};

/// A text if there is one: proto3 has no other way to leave it out.
pub(super) fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

pub(super) fn server(facts: &Facts) -> ServerMetadataResponse {
    ServerMetadataResponse {
        name: SERVER_NAME.to_string(),
        version: facts.version.clone(),
        extensions: EXTENSIONS.iter().map(|name| name.to_string()).collect(),
    }
}

pub(super) fn model(
    serving: &Serving,
    asked: &ModelMetadataRequest,
) -> Result<ModelMetadataResponse, ApiError> {
    let turn = serving.turn(&asked.name, given(&asked.version))?;
    let manifest = &turn.model().manifest;
    let tensor = |spec: &TensorSpec| TensorMetadata {
        name: spec.name.clone(),
        datatype: spec.datatype.name().to_string(),
        shape: spec.shape.clone(),
    };
    Ok(ModelMetadataResponse {
        name: manifest.model.to_string(),
        versions: vec![turn.model().artifact.version.to_string()],
        platform: manifest.engine.clone(),
        inputs: manifest.inputs.iter().map(tensor).collect(),
        outputs: manifest.outputs.iter().map(tensor).collect(),
    })
}

pub(super) fn configuration(
    serving: &Serving,
    asked: &ModelConfigRequest,
) -> Result<ModelConfigResponse, ApiError> {
    let turn = serving.turn(&asked.name, given(&asked.version))?;
    let manifest = &turn.model().manifest;
    let max_batch_size = protocol::batch_max(manifest);
    let data_type = |spec: &TensorSpec| {
        let known = DataType::from_str_name(&protocol::type_name(spec.datatype));
        known.unwrap_or(DataType::TypeInvalid).into()
    };
    let dims = |spec: &TensorSpec| protocol::dims(spec, max_batch_size).to_vec();
    let input = |spec: &TensorSpec| ModelInput {
        name: spec.name.clone(),
        data_type: data_type(spec),
        dims: dims(spec),
    };
    let output = |spec: &TensorSpec| ModelOutput {
        name: spec.name.clone(),
        data_type: data_type(spec),
        dims: dims(spec),
    };
    let config = ModelConfig {
        name: manifest.model.to_string(),
        platform: manifest.engine.clone(),
        max_batch_size,
        input: manifest.inputs.iter().map(input).collect(),
        output: manifest.outputs.iter().map(output).collect(),
        backend: manifest.engine.clone(),
    };
    Ok(ModelConfigResponse { config: Some(config) })
}

pub(super) fn index(serving: &Serving, asked: &RepositoryIndexRequest) -> RepositoryIndexResponse {
    let listed = serving.index().into_iter();
    let models = listed.filter(|listed| !asked.ready || listed.readiness == Readiness::Ready).map(
        |listed| ModelIndex {
            name: listed.model.to_string(),
            version: listed.version.map(|version| version.to_string()).unwrap_or_default(),
            state: protocol::state_name(listed.readiness).to_string(),
            reason: listed.reason,
        },
    );
    RepositoryIndexResponse { models: models.collect() }
}

pub(super) fn statistics(
    serving: &Serving,
    asked: &ModelStatisticsRequest,
) -> Result<ModelStatisticsResponse, ApiError> {
    let of = protocol::statistics_of(serving, given(&asked.name), given(&asked.version))?;
    Ok(ModelStatisticsResponse { model_stats: of.iter().map(model_stats).collect() })
}

fn model_stats(of: &Statistics) -> ModelStatistics {
    let never = timed(Timed::default());
    ModelStatistics {
        name: of.model.to_string(),
        version: of.version.to_string(),
        last_inference: of.last_inference_ms,
        inference_count: of.inferences,
        execution_count: of.executions,
        inference_stats: Some(InferStatistics {
            success: timed(of.success),
            fail: timed(of.fail),
            queue: timed(of.queue),
            compute_input: timed(of.compute_input),
            compute_infer: timed(of.compute_infer),
            compute_output: timed(of.compute_output),
            // There is no cache of answers.
            cache_hit: never,
            cache_miss: never,
        }),
        batch_stats: of.batches.iter().map(batch_stats).collect(),
    }
}

fn batch_stats(of: &Batches) -> InferBatchStatistics {
    InferBatchStatistics {
        batch_size: of.rows as u64,
        compute_input: timed(of.compute_input),
        compute_infer: timed(of.compute_infer),
        compute_output: timed(of.compute_output),
    }
}

fn timed(of: Timed) -> Option<StatisticDuration> {
    Some(StatisticDuration { count: of.count, ns: of.ns })
}
