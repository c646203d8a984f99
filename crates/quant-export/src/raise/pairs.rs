//! Which operations of two structures are the same.

use std::collections::HashMap;

use super::operation::{Kind, Operation};

/// Numbers for operations, which are equal if everything up to the operation has the same
/// structure.
#[derive(Debug, Default)]
pub(super) struct Numbering(HashMap<(Kind, Vec<u32>), u32>);

impl Numbering {
    /// Returns the numbers of operations in execution order.
    pub(super) fn of<Source>(&mut self, operations: &[Operation<Source>]) -> Vec<u32> {
        let mut numbers: Vec<u32> = Vec::with_capacity(operations.len());
        for operation in operations {
            let mut inputs: Vec<u32> =
                operation.inputs.iter().map(|input| numbers[*input]).collect();
            // The sum of two does not depend on their order.
            if operation.kind == Kind::Add && inputs.len() == 2 {
                inputs.sort_unstable();
            }
            let next = self.0.len() as u32;
            numbers.push(*self.0.entry((operation.kind.clone(), inputs)).or_insert(next));
        }
        numbers
    }
}

/// Pairs each operation of a network with that of a model of the same structure.
pub(super) fn pairs<A, B>(
    (ours, our_numbers): (&[Operation<A>], &[u32]),
    (theirs, their_numbers): (&[Operation<B>], &[u32]),
) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    let mut paired = vec![false; ours.len()];
    let mut waiting = vec![(ours.len() - 1, theirs.len() - 1)];
    while let Some((our, their)) = waiting.pop() {
        if std::mem::replace(&mut paired[our], true) {
            continue;
        }
        pairs.push((our, their));
        let mut rest = theirs[their].inputs.clone();
        for input in &ours[our].inputs {
            let same = |other: &usize| their_numbers[*other] == our_numbers[*input];
            if let Some(at) = rest.iter().position(same) {
                waiting.push((*input, rest.remove(at)));
            }
        }
    }
    pairs.sort_unstable();
    pairs
}
