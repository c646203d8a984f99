//! Nodes that nothing reads.

use quant_infer::model::Node;

/// Returns the nodes that the last one is computed from, with what is known of some of them by
/// index. The image stays first.
pub(super) fn used<T>(nodes: Vec<Node>, known: Vec<(usize, T)>) -> (Vec<Node>, Vec<(usize, T)>) {
    let mut used = vec![false; nodes.len()];
    used[0] = true;
    used[nodes.len() - 1] = true;
    for index in (0..nodes.len()).rev() {
        if used[index] {
            nodes[index].inputs.iter().for_each(|input| used[*input] = true);
        }
    }
    let mut place = Vec::with_capacity(nodes.len());
    let mut count = 0;
    for used in &used {
        place.push(count);
        count += usize::from(*used);
    }
    let kept = nodes.into_iter().enumerate().filter(|(index, _)| used[*index]);
    let kept = kept.map(|(_, mut node)| {
        node.inputs.iter_mut().for_each(|input| *input = place[*input]);
        node
    });
    let known = known.into_iter().filter(|(index, _)| used[*index]);
    (kept.collect(), known.map(|(index, what)| (place[index], what)).collect())
}

#[cfg(test)]
mod tests {
    use quant_infer::model::Op;

    use super::*;

    #[test]
    fn a_branch_that_ends_is_left_out() {
        let node = |inputs: &[usize]| Node {
            name: String::new(),
            op: if inputs.is_empty() { Op::Input } else { Op::Relu },
            inputs: inputs.to_vec(),
        };
        let nodes = vec![node(&[]), node(&[0]), node(&[1]), node(&[0])];
        let (kept, known) = used(nodes, vec![(1, "dead"), (3, "scores")]);
        assert_eq!(
            kept.iter().map(|node| node.inputs.clone()).collect::<Vec<_>>(),
            [vec![], vec![0]]
        );
        assert_eq!(known, [(1, "scores")]);
    }
}
