//! Our operators as nodes of ONNX graphs.
//!
//! tract's own TreeEnsembleClassifier is quadratic and knows few of the attributes.

use std::sync::Arc;

use tidegate_trees::{Attributes, Ensemble, Kind};
use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_hir::internal::*;

use super::coupling_op::{COUPLING, Coupling};
use super::trees_node::{TREE_OPERATORS, attributes_of};
use super::trees_op::{Trees, label_type};

/// Makes `onnx` read our operators.
pub(super) fn register(onnx: &mut Onnx) {
    for operator in TREE_OPERATORS {
        onnx.op_register.insert(operator, trees);
    }
    onnx.op_register.insert(COUPLING, coupling);
}

/// An ensemble that waits for the type of its input.
#[derive(Debug, Clone)]
struct TreesInGraph {
    attributes: Arc<Attributes>,
}

fn trees(_: &ParsingContext, node: &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let attributes = attributes_of(node).map_err(|error| format_err!("{error}"))?;
    Ok((expand(TreesInGraph { attributes: Arc::new(attributes) }), vec![]))
}

impl Expansion for TreesInGraph {
    fn name(&self) -> StaticName {
        "Trees".into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(if matches!(self.attributes.kind, Kind::Classifier { .. }) { 2 } else { 1 })
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, self.nboutputs()?)?;
        let scores = outputs.len() - 1;
        if let Kind::Classifier { labels } = &self.attributes.kind {
            s.equals(&outputs[0].datum_type, label_type(labels))?;
            s.equals(&outputs[0].rank, 1)?;
            s.equals(&outputs[0].shape[0], &inputs[0].shape[0])?;
        }
        s.equals(&inputs[0].rank, 2)?;
        s.equals(&outputs[scores].datum_type, f32::datum_type())?;
        s.equals(&outputs[scores].rank, 2)?;
        s.equals(&outputs[scores].shape[0], &inputs[0].shape[0])?;
        s.equals(&outputs[scores].shape[1], self.attributes.kind.targets().to_dim())
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let found = model.outlet_fact(inputs[0])?.datum_type;
        let double = found == f64::datum_type() || self.attributes.double;
        let attributes = Attributes { double, ..(*self.attributes).clone() };
        let ensemble = Ensemble::build(&attributes).map_err(|error| format_err!("{error}"))?;
        let wanted = if double { f64::datum_type() } else { f32::datum_type() };
        let input = match found == wanted {
            true => inputs[0],
            false => model.wire_node(format!("{prefix}.cast"), cast(wanted), inputs)?[0],
        };
        model.wire_node(prefix, Trees { ensemble: Arc::new(ensemble) }, &[input])
    }
}

fn coupling(
    _: &ParsingContext,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let classes: usize = node.get_attr("classes")?;
    Ok((expand(Coupling::new(classes)?), vec![]))
}

impl Expansion for Coupling {
    fn name(&self) -> StaticName {
        "Coupling".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].datum_type, f32::datum_type())?;
        s.equals(&outputs[0].datum_type, f32::datum_type())?;
        s.equals(&inputs[0].rank, 2)?;
        s.equals(&outputs[0].rank, 2)?;
        s.equals(&outputs[0].shape[0], &inputs[0].shape[0])?;
        s.equals(&inputs[0].shape[1], self.pairs().to_dim())?;
        s.equals(&outputs[0].shape[1], self.classes.to_dim())
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }
}
