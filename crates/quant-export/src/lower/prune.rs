//! Nodes that nothing reads.

use quant_infer::model::Node;

/// Returns the nodes that the last one is computed from, and for each node its new place if it is
/// one of them. The image stays first.
pub(super) fn used(nodes: Vec<Node>) -> (Vec<Node>, Vec<Option<usize>>) {
    let mut used = vec![false; nodes.len()];
    used[0] = true;
    used[nodes.len() - 1] = true;
    for index in (0..nodes.len()).rev() {
        if used[index] {
            nodes[index].inputs.iter().for_each(|input| used[*input] = true);
        }
    }
    let mut places = Vec::with_capacity(nodes.len());
    let mut kept = Vec::new();
    for (mut node, used) in nodes.into_iter().zip(used) {
        places.push(used.then_some(kept.len()));
        if used {
            node.inputs = node.inputs.iter().filter_map(|input| places[*input]).collect();
            kept.push(node);
        }
    }
    (kept, places)
}

/// Returns what is known of some nodes by their new places. What is known of others is left out.
pub(super) fn moved<T>(known: Vec<(usize, T)>, places: &[Option<usize>]) -> Vec<(usize, T)> {
    known.into_iter().filter_map(|(node, what)| Some((places[node]?, what))).collect()
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
        let (kept, places) = used(nodes);
        assert_eq!(
            kept.iter().map(|node| node.inputs.clone()).collect::<Vec<_>>(),
            [vec![], vec![0]]
        );
        assert_eq!(places, [Some(0), None, None, Some(1)]);
        assert_eq!(moved(vec![(1, "dead"), (3, "scores")], &places), [(1, "scores")]);
    }
}
