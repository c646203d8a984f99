//! The order in which a kernel walks a tensor.
//!
//! A convolution of Burn's returns a tensor of shape `[batch, channels, height, width]` whose
//! channels are next to each other in memory. An operation on elements that walks such a tensor in
//! the order of its shape reads memory in large steps, and one that first copies it moves all of it
//! twice. A [`Walk`] is the order of the axes in memory, and how groups of elements lie in that
//! order.

/// The order in which the axes of a tensor lie in memory, and its groups in that order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    /// The axes, the outermost first. Axes of size 1 come first.
    pub axes: Vec<usize>,
    /// The sizes of the outer dimensions, the groups and the inner dimensions in this order.
    pub view: [usize; 3],
}

/// The dimension of the view that a part of an axis belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dimension {
    Outer,
    Group,
    Inner,
}

impl Walk {
    /// Returns the order of a tensor's memory. In the order of the shape, the tensor is viewed as
    /// `view`, `[outer, groups, inner]`.
    ///
    /// The order is that of the shape if the axes overlap in memory, if the groups do not lie side
    /// by side in memory, or if there are no elements.
    pub fn of(shape: &[usize], strides: &[usize], view: [usize; 3]) -> Self {
        let known = if shape.contains(&0) { None } else { in_memory(shape, strides) };
        known
            .and_then(|axes| regrouped(shape, &axes, view).map(|view| Self { axes, view }))
            .unwrap_or_else(|| Self { axes: (0..shape.len()).collect(), view })
    }

    /// Returns the values of the axes, such as sizes or strides, in the order of the walk.
    pub fn present(&self, of_axes: &[usize]) -> Vec<usize> {
        self.axes.iter().map(|axis| of_axes[*axis]).collect()
    }

    /// Does the opposite of [`present`](Self::present).
    pub fn restore(&self, presented: &[usize]) -> Vec<usize> {
        let mut of_axes = vec![0; presented.len()];
        for (value, axis) in presented.iter().zip(&self.axes) {
            of_axes[*axis] = *value;
        }
        of_axes
    }
}

/// Returns the axes by descending strides, or nothing if they overlap. There may be gaps in memory.
fn in_memory(shape: &[usize], strides: &[usize]) -> Option<Vec<usize>> {
    let mut axes: Vec<usize> = (0..shape.len()).collect();
    axes.sort_by_key(|axis| match shape[*axis] {
        1 => (0, 0, *axis),
        _ => (1, usize::MAX - strides[*axis], *axis),
    });
    let mut extent = 1;
    for axis in axes.iter().rev().filter(|axis| shape[**axis] != 1) {
        if strides[*axis] < extent {
            return None;
        }
        extent = strides[*axis] * shape[*axis];
    }
    Some(axes)
}

/// Returns `view` for a tensor whose axes are put in this order, or nothing if its groups are then
/// not one dimension.
fn regrouped(shape: &[usize], axes: &[usize], view: [usize; 3]) -> Option<[usize; 3]> {
    let [_, groups, inner] = view;
    let elements = shape.iter().product();
    if groups == 1 {
        return Some([1, 1, elements]);
    }
    let mut parts = Vec::new();
    for axis in axes {
        let after = shape[axis + 1..].iter().product();
        parts.extend(parts_of_axis(shape[*axis], after, inner, groups)?);
    }
    parts.retain(|(size, ..)| *size != 1);
    let is_group = |(_, _, part): &(usize, usize, Dimension)| *part == Dimension::Group;
    let first = parts.iter().position(is_group)?;
    let last = parts.iter().rposition(is_group)?;
    let run = &parts[first..=last];
    let in_order = run.windows(2).all(|pair| pair[0].1 > pair[1].1);
    let size = |parts: &[(usize, usize, Dimension)]| parts.iter().map(|(size, ..)| size).product();
    (run.iter().all(is_group) && in_order)
        .then(|| [size(&parts[..first]), groups, size(&parts[last + 1..])])
}

/// Divides an axis at the bounds of the groups. `after` is the number of elements that one step
/// along the axis skips in the order of the shape. Returns size, this number, and kind of each
/// part, the outermost first.
fn parts_of_axis(
    size: usize,
    after: usize,
    inner: usize,
    groups: usize,
) -> Option<Vec<(usize, usize, Dimension)>> {
    let end = after * size;
    let mut bounds = vec![after];
    bounds.extend([inner, inner * groups].into_iter().filter(|at| after < *at && *at < end));
    bounds.push(end);
    bounds
        .windows(2)
        .rev()
        .map(|pair| {
            let [low, high] = [pair[0], pair[1]];
            let part = match low {
                low if low >= inner * groups => Dimension::Outer,
                low if low >= inner => Dimension::Group,
                _ => Dimension::Inner,
            };
            high.is_multiple_of(low).then_some((high / low, low, part))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the strides of a tensor whose axes lie in memory in this order.
    fn strides(shape: &[usize], axes: &[usize], gap: usize) -> Vec<usize> {
        let mut strides = vec![0; shape.len()];
        let mut next = 1;
        for axis in axes.iter().rev() {
            strides[*axis] = next;
            next *= shape[*axis] + gap;
        }
        strides
    }

    /// Returns the index of each element in the order of the shape, listed in the order of the
    /// walk.
    fn walked(shape: &[usize], axes: &[usize]) -> Vec<usize> {
        let mut indices = vec![0];
        for axis in axes {
            let after: usize = shape[axis + 1..].iter().product();
            let next = |index: usize| (0..shape[*axis]).map(move |at| index + at * after);
            indices = indices.into_iter().flat_map(next).collect();
        }
        indices
    }

    proptest! {
        #[test]
        fn every_element_keeps_its_group(
            shape in prop::collection::vec(1usize..5, 1..5),
            order in prop::collection::vec(any::<u32>(), 5),
            cuts in any::<[u32; 2]>(),
            gap in 0usize..2,
        ) {
            let mut axes: Vec<usize> = (0..shape.len()).collect();
            axes.sort_by_key(|axis| order[*axis]);
            let elements: usize = shape.iter().product();
            let pick = |of: usize, by: u32| {
                let divisors: Vec<usize> =
                    (1..=of).filter(|part| of.is_multiple_of(*part)).collect();
                divisors[by as usize % divisors.len()]
            };
            let groups = pick(elements, cuts[0]);
            let inner = pick(elements / groups, cuts[1]);
            let view = [elements / groups / inner, groups, inner];
            let walk = Walk::of(&shape, &strides(&shape, &axes, gap), view);
            let [outer, groups, in_memory] = walk.view;
            prop_assert_eq!(outer * groups * in_memory, elements);
            prop_assert_eq!(groups, view[1]);
            for (at, index) in walked(&shape, &walk.axes).into_iter().enumerate() {
                prop_assert_eq!(at / in_memory % groups, index / inner % groups);
            }
            prop_assert_eq!(walk.restore(&walk.present(&shape)), shape);
        }
    }

    #[test]
    fn channels_that_lie_side_by_side_are_the_last_dimension() {
        let shape = [2, 8, 5, 3];
        let walk = Walk::of(&shape, &[120, 1, 24, 8], [2, 8, 15]);
        assert_eq!(walk, Walk { axes: vec![0, 2, 3, 1], view: [30, 8, 1] });
        let pairs = Walk::of(&shape, &[120, 1, 24, 8], [2, 4, 30]);
        assert_eq!(pairs.view, [30, 4, 2]);
        let whole = Walk::of(&shape, &[120, 1, 24, 8], [1, 1, 240]);
        assert_eq!(whole.view, [1, 1, 240]);
    }

    #[test]
    fn nothing_is_walked_in_the_order_of_the_shape() {
        let walk = Walk::of(&[2, 4, 3, 0], &[12, 1, 4, 4], [2, 4, 0]);
        assert_eq!(walk, Walk { axes: vec![0, 1, 2, 3], view: [2, 4, 0] });
    }

    #[test]
    fn rows_with_gaps_are_walked_in_memory_order() {
        let walk = Walk::of(&[2, 3, 7], &[24, 8, 1], [2, 3, 7]);
        assert_eq!(walk, Walk { axes: vec![0, 1, 2], view: [2, 3, 7] });
    }

    #[test]
    fn what_is_repeated_is_walked_in_the_order_of_the_shape() {
        let walk = Walk::of(&[2, 3, 4], &[1, 0, 2], [2, 3, 4]);
        assert_eq!(walk, Walk { axes: vec![0, 1, 2], view: [2, 3, 4] });
    }
}
