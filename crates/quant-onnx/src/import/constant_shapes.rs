//! The shapes of constants: how they are combined and changed.

use crate::tensor::{Constant, Data, Grid, elements};

/// The place of an element of a larger shape in a smaller one that is broadcast to it.
fn broadcast(dims: &[usize], to: &[usize]) -> Option<Vec<usize>> {
    let lead = to.len().checked_sub(dims.len())?;
    let fits = |(side, wanted): (&usize, &usize)| *side == 1 || side == wanted;
    if !dims.iter().zip(&to[lead..]).all(fits) {
        return None;
    }
    let mut strides = vec![0; to.len()];
    let mut stride = 1;
    for at in (0..dims.len()).rev() {
        strides[lead + at] = if dims[at] == 1 { 0 } else { stride };
        stride *= dims[at];
    }
    let count = elements(to)?;
    let mut places = Vec::with_capacity(count);
    let mut index = vec![0; to.len()];
    for _ in 0..count {
        places.push(index.iter().zip(&strides).map(|(index, stride)| index * stride).sum());
        for at in (0..to.len()).rev() {
            index[at] += 1;
            if index[at] < to[at] {
                break;
            }
            index[at] = 0;
        }
    }
    Some(places)
}

/// Two constants, each with as many elements as the larger one.
pub(super) fn together(a: &Constant, b: &Constant) -> Option<(Vec<usize>, Vec<f32>, Vec<f32>)> {
    let (large, small) = if a.data.len() >= b.data.len() { (a, b) } else { (b, a) };
    let dims = if large.dims.len() >= small.dims.len() {
        large.dims.clone()
    } else {
        // Sides of 1 in front.
        let lead = small.dims.len() - large.dims.len();
        [&vec![1; lead][..], &large.dims].concat()
    };
    let spread = |constant: &Constant| -> Option<Vec<f32>> {
        let numbers = constant.floats();
        Some(broadcast(&constant.dims, &dims)?.into_iter().map(|at| numbers[at]).collect())
    };
    let (of_a, of_b) = (spread(a)?, spread(b)?);
    Some((dims, of_a, of_b))
}

/// Returns a constant with its dimensions in another order.
pub(super) fn transposed(constant: &Constant, order: &[usize]) -> Option<Constant> {
    let rank = constant.dims.len();
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    if sorted != (0..rank).collect::<Vec<_>>() {
        return None;
    }
    let dims: Vec<usize> = order.iter().map(|axis| constant.dims[*axis]).collect();
    let mut strides = vec![1; rank];
    for axis in (1..rank).rev() {
        strides[axis - 1] = strides[axis] * constant.dims[axis];
    }
    let count = constant.data.len();
    let mut places = Vec::with_capacity(count);
    let mut index = vec![0; rank];
    for _ in 0..count {
        places.push(index.iter().zip(order).map(|(index, axis)| index * strides[*axis]).sum());
        for at in (0..rank).rev() {
            index[at] += 1;
            if index[at] < dims[at] {
                break;
            }
            index[at] = 0;
        }
    }
    fn pick<T: Copy>(numbers: &[T], places: &[usize]) -> Vec<T> {
        places.iter().map(|at| numbers[*at]).collect()
    }
    let data = match &constant.data {
        Data::Floats(numbers) => Data::Floats(pick(numbers, &places)),
        Data::Integers(numbers) => Data::Integers(pick(numbers, &places)),
    };
    let grid = constant.grid.as_ref().map(|grid| Grid {
        integers: pick(&grid.integers, &places),
        scales: if grid.scales.len() == 1 {
            grid.scales.clone()
        } else {
            pick(&grid.scales, &places)
        },
    });
    Some(Constant { dims, data, grid })
}

/// Resolves the shape of a reshape: 0 keeps a side, -1 is what is left.
pub(super) fn reshape(from: &[usize], to: &[i64], keep_zeros: bool) -> Option<Vec<usize>> {
    let mut dims = Vec::with_capacity(to.len());
    for (at, side) in to.iter().enumerate() {
        dims.push(match side {
            0 if !keep_zeros => *from.get(at)?,
            -1 => 1,
            side => usize::try_from(*side).ok()?,
        });
    }
    let count = elements(from)?;
    let known = elements(&dims)?;
    let mut open = to.iter().enumerate().filter(|(_, side)| **side == -1).map(|(at, _)| at);
    match (open.next(), open.next()) {
        (None, _) => (known == count).then_some(dims),
        (Some(at), None) if known > 0 && count % known == 0 => {
            dims[at] = count / known;
            Some(dims)
        }
        _ => None,
    }
}

/// Returns a shape with sides of 1 added or removed.
pub(super) fn squeezed(dims: &[usize], axes: Option<&[i64]>, add: bool) -> Option<Vec<usize>> {
    let Some(axes) = axes else {
        return (!add).then(|| dims.iter().copied().filter(|side| *side != 1).collect());
    };
    let rank = if add { dims.len() + axes.len() } else { dims.len() };
    let place = |axis: &i64| {
        let axis = if *axis < 0 { axis.checked_add(rank as i64)? } else { *axis };
        usize::try_from(axis).ok().filter(|axis| *axis < rank)
    };
    let axes: Option<Vec<usize>> = axes.iter().map(place).collect();
    let axes = axes?;
    if add {
        let mut rest = dims.iter();
        (0..rank)
            .map(|at| if axes.contains(&at) { Some(1) } else { rest.next().copied() })
            .collect()
    } else {
        let kept = dims.iter().enumerate().filter(|(at, _)| !axes.contains(at));
        axes.iter().all(|axis| dims[*axis] == 1).then(|| kept.map(|(_, side)| *side).collect())
    }
}
