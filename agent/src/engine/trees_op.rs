//! Ensembles of trees as an operator of tract, anywhere in a graph, and in NNEF files.

use std::sync::Arc;

use tidegate_trees::{Ensemble, Labels, Scores};
use tract_nnef::internal::*;

/// The name of our operators' NNEF extension, and the prefix of their names.
const EXTENSION: &str = "tidegate_trees";

/// What an NNEF reader or writer must know of our operators.
pub fn nnef_registry() -> Registry {
    let mut registry = Registry::new(EXTENSION);
    let parameters =
        [TypeName::Scalar.tensor().named("input"), TypeName::Scalar.tensor().named("ensemble")];
    let (label, scores) =
        (("label", TypeName::Scalar.tensor()), ("scores", TypeName::Scalar.tensor()));
    registry.register_primitive(
        format!("{EXTENSION}_classifier"),
        &parameters,
        &[label, scores.clone()],
        from_nnef,
    );
    registry.register_primitive(
        format!("{EXTENSION}_regressor"),
        &parameters,
        &[scores],
        from_nnef,
    );
    registry.register_dumper(to_nnef);
    super::coupling_op::register_nnef(&mut registry);
    registry
}

pub(super) fn label_type(labels: &Labels) -> DatumType {
    match labels {
        Labels::Ints(_) => i64::datum_type(),
        Labels::Strings(_) => String::datum_type(),
    }
}

/// The operator: rows of `f32` (or `f64` if the ensemble has as many bits) to the labels, if it
/// classifies, and scores.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trees {
    pub(super) ensemble: Arc<Ensemble>,
}

// No number in it is NaN by the time it is built, and if a file has one, it is merely unequal.
impl Eq for Trees {}

impl Op for Trees {
    fn name(&self) -> StaticName {
        "Trees".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Trees {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let &[count, columns] = input.shape() else {
            bail!("an ensemble of trees asks for rows of columns, not {:?}", input.shape());
        };
        let ensemble = &*self.ensemble;
        let needed = ensemble.columns();
        ensure!(columns >= needed, "the trees look at {needed} columns, there are {columns}");
        let mut scores = Scores::default();
        let values = input.try_as_plain_ram()?;
        if ensemble.is_double() {
            ensemble.run_f64(values.as_slice::<f64>()?, count, &mut scores);
        } else {
            ensemble.run_f32(values.as_slice::<f32>()?, count, &mut scores);
        }
        let mut outputs = tvec!();
        let classes = scores.classes.iter().map(|class| *class as usize);
        match ensemble.labels() {
            Some(Labels::Ints(labels)) => {
                let labels: Vec<i64> = classes.map(|class| labels[class]).collect();
                outputs.push(tensor1(&labels).into_tvalue());
            }
            Some(Labels::Strings(labels)) => {
                let labels: Vec<String> = classes.map(|class| labels[class].clone()).collect();
                outputs.push(tensor1(&labels).into_tvalue());
            }
            None => {}
        }
        let shape = [count, ensemble.targets()];
        outputs.push(Tensor::from_shape(&shape, &scores.values)?.into_tvalue());
        Ok(outputs)
    }
}

impl TypedOp for Trees {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let ensemble = &self.ensemble;
        let wanted = if ensemble.is_double() { f64::datum_type() } else { f32::datum_type() };
        ensure!(inputs.len() == 1 && inputs[0].datum_type == wanted, "trees ask for {wanted:?}");
        ensure!(inputs[0].rank() == 2, "trees ask for rows of columns");
        let rows = inputs[0].shape[0].clone();
        let scores = f32::fact([rows.clone(), ensemble.targets().to_dim()]);
        Ok(match ensemble.labels() {
            Some(labels) => tvec!(label_type(labels).fact([rows]), scores),
            None => tvec!(scores),
        })
    }

    as_op!();
}

fn to_nnef(ast: &mut IntoAst, node: &TypedNode, op: &Trees) -> TractResult<Option<Arc<RValue>>> {
    let input = ast.mapping[&node.inputs[0]].clone();
    let bytes = tensor1(&op.ensemble.encode()).into_arc_tensor();
    let ensemble = ast.konst_variable(format!("{}_ensemble", node.name), &bytes)?;
    let kind = if op.ensemble.labels().is_some() { "classifier" } else { "regressor" };
    Ok(Some(invocation(format!("{EXTENSION}_{kind}"), &[input, ensemble], &[])))
}

fn from_nnef(builder: &mut ModelBuilder, invocation: &ResolvedInvocation) -> TractResult<Value> {
    let input: OutletId = invocation.named_arg_as(builder, "input")?;
    let bytes: Arc<Tensor> = invocation.named_arg_as(builder, "ensemble")?;
    let bytes = bytes.try_as_plain_ram()?;
    let ensemble = Ensemble::decode(bytes.as_slice::<u8>()?);
    let ensemble = ensemble.map_err(|error| format_err!("{error}"))?;
    builder.wire(Trees { ensemble: Arc::new(ensemble) }, &[input])
}
