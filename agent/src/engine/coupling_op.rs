//! From the probabilities of pairs of classes to those of the classes: the last step of support
//! vector machines with probabilities, an operator of our own.

use tract_nnef::internal::*;

/// The operator's name in ONNX graphs that the bundle tool writes. Its input is, for each row, the
/// probability of i against j for every pair i < j; its attribute `classes` says how many there are.
pub const COUPLING: &str = "TidegateCoupling";

const IN_NNEF: &str = "tidegate_coupling";

/// Classes, at most: time grows with their square.
const CLASSES_MAX: usize = 1024;

/// Makes `registry` read and write the operator.
pub(super) fn register_nnef(registry: &mut Registry) {
    registry.register_primitive(
        IN_NNEF,
        &[TypeName::Scalar.tensor().named("input"), TypeName::Integer.named("classes")],
        &[("output", TypeName::Scalar.tensor())],
        from_nnef,
    );
    registry.register_dumper(to_nnef);
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Coupling {
    pub(super) classes: usize,
}

impl Coupling {
    pub(super) fn new(classes: usize) -> TractResult<Self> {
        ensure!((2..=CLASSES_MAX).contains(&classes), "{classes} classes cannot be coupled");
        Ok(Self { classes })
    }

    pub(super) fn pairs(&self) -> usize {
        self.classes * (self.classes - 1) / 2
    }
}

impl Op for Coupling {
    fn name(&self) -> StaticName {
        "Coupling".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Coupling {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let rows = input.try_as_plain_ram()?;
        let rows = rows.as_slice::<f32>()?.chunks_exact(self.pairs());
        let coupled: Vec<f32> = rows.flat_map(|pairs| couple(self.classes, pairs)).collect();
        let shape = [coupled.len() / self.classes, self.classes];
        Ok(tvec!(Tensor::from_shape(&shape, &coupled)?.into_tvalue()))
    }
}

impl TypedOp for Coupling {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 1 && inputs[0].rank() == 2, "coupling asks for rows of pairs");
        ensure!(inputs[0].shape[1] == self.pairs().to_dim(), "coupling asks for all pairs");
        Ok(tvec!(f32::fact([inputs[0].shape[0].clone(), self.classes.to_dim()])))
    }

    as_op!();
}

/// The iteration of libsvm, with its bounds and its way to end: stopping elsewhere would answer
/// other numbers than the framework does.
///
/// # Source
/// Wu, Lin, Weng, "Probability estimates for multi-class classification by pairwise coupling",
/// 2004, algorithm 2.
fn couple(classes: usize, pairs: &[f32]) -> Vec<f32> {
    const LEAST: f32 = 1e-7;
    const LOOPS_MAX: usize = 100;
    let mut against = vec![0.0_f32; classes * classes];
    let mut pairs = pairs.iter();
    for i in 0..classes {
        for j in i + 1..classes {
            let share = pairs.next().copied().unwrap_or(0.5).clamp(LEAST, 1.0 - LEAST);
            (against[i * classes + j], against[j * classes + i]) = (share, 1.0 - share);
        }
    }
    let mut q = vec![0.0_f32; classes * classes];
    for i in 0..classes {
        for j in (0..classes).filter(|j| *j != i) {
            let (lost, won) = (against[j * classes + i], against[i * classes + j]);
            q[i * classes + i] += lost * lost;
            q[i * classes + j] = -lost * won;
        }
    }
    let enough = 0.005 / classes as f32;
    let mut p = vec![1.0 / classes as f32; classes];
    for _ in 0..LOOPS_MAX {
        let product =
            |row: usize| -> f32 { (0..classes).map(|j| q[row * classes + j] * p[j]).sum() };
        let mut qp: Vec<f32> = (0..classes).map(product).collect();
        let mut pqp: f32 = p.iter().zip(&qp).map(|(p, qp)| p * qp).sum();
        if qp.iter().all(|qp| (qp - pqp).abs() < enough) {
            break;
        }
        for i in 0..classes {
            let own = q[i * classes + i];
            let step = (pqp - qp[i]) / own;
            let whole = 1.0 + step;
            p[i] += step;
            pqp = (pqp + step * (step * own + 2.0 * qp[i])) / whole / whole;
            for j in 0..classes {
                qp[j] = (qp[j] + step * q[i * classes + j]) / whole;
                p[j] /= whole;
            }
        }
    }
    p
}

fn to_nnef(ast: &mut IntoAst, node: &TypedNode, op: &Coupling) -> TractResult<Option<Arc<RValue>>> {
    let input = ast.mapping[&node.inputs[0]].clone();
    Ok(Some(invocation(IN_NNEF, &[input], &[("classes", numeric(op.classes))])))
}

fn from_nnef(builder: &mut ModelBuilder, invocation: &ResolvedInvocation) -> TractResult<Value> {
    let input: OutletId = invocation.named_arg_as(builder, "input")?;
    let classes: usize = invocation.named_arg_as(builder, "classes")?;
    builder.wire(Coupling::new(classes)?, &[input])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_classes_have_the_probability_of_their_pair() {
        let p = couple(2, &[0.8]);
        assert!((p[0] - 0.8).abs() < 1e-2 && (p[0] + p[1] - 1.0).abs() < 1e-6, "{p:?}");
        let even = couple(3, &[0.5, 0.5, 0.5]);
        assert!(even.iter().all(|p| (p - 1.0 / 3.0).abs() < 1e-6), "{even:?}");
        let first = couple(3, &[0.9, 0.9, 0.5]);
        assert!(first[0] > 0.7 && (first[1] - first[2]).abs() < 1e-2, "{first:?}");
    }
}
