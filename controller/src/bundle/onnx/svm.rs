//! Support vector machines.

use tidegate_agent::engine::COUPLING;

use super::graph::{Labels, Node, Unfit, With, Writer};
use super::linear::product;

/// The kernel's value of each row and each of `count` support vectors.
fn kernel(node: Node, x: &str, count: usize, write: &mut Writer) -> Result<String, Unfit> {
    let vectors = node.floats("support_vectors");
    let columns = vectors.len() / count.max(1);
    if columns == 0 || columns * count != vectors.len() {
        return Err(format!("{} numbers for {count} support vectors", vectors.len()));
    }
    let [gamma, coef0, degree] = match node.floats("kernel_params") {
        [gamma, coef0, degree, ..] => [*gamma, *coef0, *degree],
        _ => [0.0; 3],
    };
    let name = node.text("kernel_type", "LINEAR");
    if name == "RBF" {
        // The differences themselves: expanding the square would lose what is nearest.
        let vectors = write.floats(vectors, &[count, columns]);
        let apart = write.ints(&[-1, 1, columns as i64], &[3]);
        let x = write.node("Reshape", &[x, &apart], &[]);
        let difference = write.node("Sub", &[&x, &vectors], &[]);
        let square = write.node("Mul", &[&difference, &difference], &[]);
        let distance = write.reduce_away("ReduceSum", 13, &square, 2);
        let gamma = write.row(&[-gamma]);
        let exponent = write.node("Mul", &[&distance, &gamma], &[]);
        return Ok(write.node("Exp", &[&exponent], &[]));
    }
    let dot = product(x, vectors, count, &[], write)?;
    if name == "LINEAR" {
        return Ok(dot);
    }
    let (gamma, coef0) = (write.row(&[gamma]), write.row(&[coef0]));
    let scaled = write.node("Mul", &[&dot, &gamma], &[]);
    let inner = write.node("Add", &[&scaled, &coef0], &[]);
    match name.as_str() {
        "SIGMOID" => Ok(write.node("Tanh", &[&inner], &[])),
        "POLY" => {
            let degree = write.row(&[degree]);
            Ok(write.node("Pow", &[&inner, &degree], &[]))
        }
        other => Err(format!("the kernel {other}")),
    }
}

pub(super) fn regressor(node: Node, write: &mut Writer) -> Result<(), Unfit> {
    let count = usize::try_from(node.int("n_supports", 0)).unwrap_or(0);
    let (coefficients, rho) = (node.floats("coefficients"), node.floats("rho"));
    let x = write.as_float(node.input(0));
    let kernels = if count == 0 { x } else { kernel(node, &x, count, write)? };
    let rho = rho.get(..1).unwrap_or_default();
    let score = product(&kernels, coefficients, 1, rho, write)?;
    if node.int("one_class", 0) == 0 {
        return write.post_transform(&score, &node.text("post_transform", "NONE"), node.output(0));
    }
    let (zero, one, other) = (write.row(&[0.0]), write.row(&[1.0]), write.row(&[-1.0]));
    let inside = write.node("Greater", &[&score, &zero], &[]);
    write.last("Where", &[&inside, &one, &other], &[], node.output(0));
    Ok(())
}

/// Each pair of classes is one machine over the support vectors of both.
pub(super) fn classifier(node: Node, write: &mut Writer) -> Result<(), Unfit> {
    let labels = Labels::of(node);
    let classes = labels.len();
    let per_class: Vec<usize> = node
        .ints("vectors_per_class")
        .iter()
        .map(|count| usize::try_from(*count).unwrap_or(0))
        .collect();
    let count: usize = per_class.iter().sum();
    let x = write.as_float(node.input(0));
    if count == 0 || per_class.len() != classes || classes < 2 {
        return Err("no support vectors for its classes".into());
    }
    let pairs = classes * (classes - 1) / 2;
    let (coefficients, rho) = (node.floats("coefficients"), node.floats("rho"));
    if coefficients.len() < (classes - 1) * count || rho.len() < pairs {
        return Err("too few coefficients or offsets for its classes".into());
    }
    let kernels = kernel(node, &x, count, write)?;
    let machines = machines(&per_class, coefficients);
    let scores = product(&kernels, &machines, pairs, &rho[..pairs], write)?;
    let votes = votes(&scores, classes, write);
    write.largest(&votes, labels, node.output(0));
    if node.output(1).is_empty() {
        return Ok(());
    }
    if node.has("prob_a") {
        return probabilities(node, &scores, classes, write);
    }
    let post = node.text("post_transform", "NONE");
    if classes > 2 {
        return write.post_transform(&scores, &post, node.output(1));
    }
    let first = if post == "NONE" {
        write.node("Neg", &[&scores], &[])
    } else {
        let one = write.row(&[1.0]);
        write.node("Sub", &[&one, &scores], &[])
    };
    write.last("Concat", &[&first, &scores], &[With::Int("axis", 1)], node.output(1));
    Ok(())
}

/// A row of coefficients over all support vectors for each pair of classes.
///
/// # Source
/// libsvm's `sv_coef`: a support vector of class i has its coefficient against class j in row j − 1
/// if i < j, else in row j.
fn machines(per_class: &[usize], coefficients: &[f32]) -> Vec<f32> {
    let count: usize = per_class.iter().sum();
    let starts: Vec<usize> = per_class
        .iter()
        .scan(0, |next, own| {
            let start = *next;
            *next += own;
            Some(start)
        })
        .collect();
    let mut machines = Vec::new();
    for i in 0..per_class.len() {
        for j in i + 1..per_class.len() {
            let mut row = vec![0.0; count];
            for (own, other) in [(i, j - 1), (j, i)] {
                let range = starts[own]..starts[own] + per_class[own];
                let from = &coefficients[other * count..][range.clone()];
                row[range].copy_from_slice(from);
            }
            machines.extend(row);
        }
    }
    machines
}

/// How many of its pairs each class has won.
fn votes(scores: &str, classes: usize, write: &mut Writer) -> String {
    let zero = write.row(&[0.0]);
    let won = write.node("Greater", &[scores, &zero], &[]);
    let won = write.as_float(&won);
    // A pair won is a vote for the first, a pair lost for the second.
    let (mut difference, mut lost) = (Vec::new(), vec![0.0; classes]);
    for i in 0..classes {
        for j in i + 1..classes {
            let mut row = vec![0.0; classes];
            (row[i], row[j]) = (1.0, -1.0);
            lost[j] += 1.0;
            difference.extend(row);
        }
    }
    let pairs = difference.len() / classes;
    let difference = write.floats(&difference, &[pairs, classes]);
    let won = write.node("MatMul", &[&won, &difference], &[]);
    let lost = write.row(&lost);
    write.node("Add", &[&won, &lost], &[])
}

/// Platt's probabilities of the pairs, coupled to those of the classes by an operator of our own.
fn probabilities(
    node: Node,
    scores: &str,
    classes: usize,
    write: &mut Writer,
) -> Result<(), Unfit> {
    let pairs = classes * (classes - 1) / 2;
    let (a, b) = (node.floats("prob_a"), node.floats("prob_b"));
    if a.len() != pairs || b.len() != pairs {
        return Err(format!("{} and {} values of prob_a and prob_b", a.len(), b.len()));
    }
    let (a, b) = (write.row(a), write.row(b));
    let scaled = write.node("Mul", &[scores, &a], &[]);
    let moved = write.node("Add", &[&scaled, &b], &[]);
    let opposite = write.node("Neg", &[&moved], &[]);
    let pairs = write.node("Sigmoid", &[&opposite], &[]);
    let with = [With::Int("classes", classes as i64)];
    let coupled = write.node(COUPLING, &[&pairs], &with);
    write.post_transform(&coupled, &node.text("post_transform", "NONE"), node.output(1))
}
