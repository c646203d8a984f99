//! How much of a device a kernel uses, and how tensors are handed to it.

use cubecl::{
    client::Client,
    ir::{ElemType, FloatKind},
    prelude::*,
    server::{Handle, MemoryLayout, MemoryLayoutDescriptor},
    std::tensor::layout::linear::{LinearViewLaunch, linear_view},
};

use crate::{Walk, path::PathLaunch};

/// A tensor on a device, and the type of its elements.
#[derive(Debug, Clone)]
pub struct Operand {
    /// Memory, shape and strides.
    pub binding: TensorBinding,
    /// The type of the elements.
    pub dtype: ElemType,
}

/// A new tensor on a device.
#[derive(Debug, Clone)]
pub struct Output {
    /// The memory that holds the tensor's elements.
    pub handle: Handle,
    /// The size of each axis.
    pub shape: Vec<usize>,
    /// The number of elements between two neighbours along each axis.
    pub strides: Vec<usize>,
}

/// The type of sums.
pub(crate) const FLOAT: ElemType = ElemType::Float(FloatKind::F32);

/// The number of units of a cube. Devices allow at least this many.
pub(crate) const UNITS: usize = 256;

/// The number of units of the largest cubes.
const MOST_UNITS: usize = 1024;

/// The number of cubes that fill a device whose number of multiprocessors is not known.
const CUBES: usize = 512;

/// The number of cubes that a multiprocessor runs at the same time.
const CUBES_OF_MULTIPROCESSOR: usize = 8;

/// What kernels are adapted to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The number of cubes that fill the device.
    pub cubes: usize,
    /// The number of bytes that a unit reads at once.
    pub bytes: usize,
    /// The largest number of elements of a vector.
    pub elements: usize,
    /// The largest number of units of a cube: a power of two.
    pub units: usize,
}

impl Limits {
    pub(crate) fn of(client: &Client) -> Self {
        let properties = client.properties();
        let multiprocessors = properties.hardware.num_streaming_multiprocessors;
        let cubes = multiprocessors.map_or(CUBES, |count| count as usize * CUBES_OF_MULTIPROCESSOR);
        let bytes = properties.io_width() as usize / 8;
        let elements = properties.hardware.max_vector_size.min(8);
        let units = (properties.hardware.max_units_per_cube as usize).clamp(UNITS, MOST_UNITS);
        Self { cubes, bytes, elements, units: 1 << units.ilog2() }
    }

    /// Returns the limits of a kernel that reads parameters, or keeps sums, of each group. Where
    /// groups lie side by side in a tensor that is viewed as `view`, a vector has few of them.
    pub(crate) fn of_groups(self, [_, groups, inner]: [usize; 3]) -> Self {
        let most = if groups > 1 && inner == 1 { MOST_COLUMNS } else { self.elements };
        Self { elements: self.elements.min(most), ..self }
    }
}

/// Returns a grid of at least this many cubes. Every axis of a grid may have 65,535 cubes.
pub(crate) fn grid(cubes: usize) -> CubeCount {
    let columns = cubes.clamp(1, 65_535);
    CubeCount::Static(columns as u32, cubes.div_ceil(columns) as u32, 1)
}

impl Operand {
    /// Returns the tensor with its axes in the order of the walk.
    pub fn presented(&self, walk: &Walk) -> Operand {
        let shape = walk.present(&self.binding.shape);
        let mut strides = walk.present(&self.binding.strides);
        // The stride of an axis of size 1 is never used. If it were not that of a tensor without
        // gaps, kernels would compute the place of every element by divisions.
        for axis in (0..shape.len()).rev().filter(|axis| shape[*axis] == 1) {
            strides[axis] = match shape.get(axis + 1) {
                Some(size) => size * strides[axis + 1],
                None => 1,
            };
        }
        let mut binding = self.binding.clone();
        binding.shape = shape.as_slice().into();
        binding.strides = strides.as_slice().into();
        Operand { binding, dtype: self.dtype }
    }

    pub(crate) fn elements(&self) -> usize {
        self.binding.shape.iter().product()
    }

    /// Returns the number of elements from the first to the last in memory.
    pub(crate) fn extent(&self) -> usize {
        let steps = self.binding.shape.iter().zip(self.binding.strides.iter());
        steps.map(|(size, stride)| size.saturating_sub(1) * stride).sum::<usize>() + 1
    }

    /// Returns whether `vector` neighbours in the order of the axes are neighbours in memory, and
    /// begin where such a vector may begin.
    fn takes_vectors(&self, vector: usize) -> bool {
        let (shape, strides) = (&self.binding.shape, &self.binding.strides);
        let mut expected = 1;
        let mut dense = true;
        for (size, stride) in shape.iter().zip(strides.iter()).rev().filter(|(size, _)| **size > 1)
        {
            dense &= *stride == expected;
            expected *= size;
        }
        let Some((last, rest)) = strides.split_last() else {
            return true;
        };
        let rows = *last == 1
            && shape[shape.len() - 1].is_multiple_of(vector)
            && rest.iter().all(|stride| stride.is_multiple_of(vector));
        dense || rows
    }

    pub(crate) fn view(self) -> LinearViewLaunch {
        linear_view(self.binding)
    }
}

impl Output {
    /// Returns a tensor without gaps, whose axes lie in memory in the order of the walk.
    pub(crate) fn like(client: &Client, shape: &[usize], walk: &Walk, dtype: ElemType) -> Self {
        let Output { handle, strides, .. } = Self::new(client, &walk.present(shape), dtype);
        Self { handle, shape: shape.to_vec(), strides: walk.restore(&strides) }
    }

    /// Returns a tensor without gaps.
    pub(crate) fn new(client: &Client, shape: &[usize], dtype: ElemType) -> Self {
        let descriptor = MemoryLayoutDescriptor::contiguous(shape.into(), dtype.size());
        let MemoryLayout { memory, strides } = client.empty_tensors(vec![descriptor]).remove(0);
        Self { handle: memory, shape: shape.to_vec(), strides: strides.to_vec() }
    }

    pub(crate) fn operand(&self, dtype: ElemType) -> Operand {
        let binding = TensorBinding {
            handle: self.handle.clone().binding(),
            shape: self.shape.as_slice().into(),
            strides: self.strides.as_slice().into(),
            tiling: Default::default(),
        };
        Operand { binding, dtype }
    }
}

/// Returns the number of neighbours that are read together. It divides `run`.
fn vector_size(limits: Limits, operands: &[&Operand], run: usize) -> usize {
    let widest = operands.iter().map(|operand| operand.dtype.size()).max().unwrap_or(4);
    let most = (limits.bytes / widest).min(limits.elements);
    let fits = |size: &usize| {
        run.is_multiple_of(*size) && operands.iter().all(|operand| operand.takes_vectors(*size))
    };
    [8, 4, 2].into_iter().filter(|size| *size <= most).find(fits).unwrap_or(1)
}

/// Returns the type that indexes all of these tensors, also by the number to which the loop of a
/// unit counts: it ends up to one step of all units behind the last element.
pub(crate) fn address_type(operands: &[&Operand]) -> AddressType {
    AddressType::from_len(longest(operands).saturating_add(UNITS << 16))
}

/// Returns the number of elements of the longest of these tensors, from the first to the last in
/// memory.
fn longest(operands: &[&Operand]) -> usize {
    let lengths = operands.iter().map(|operand| operand.extent().max(operand.elements()));
    lengths.max().unwrap_or(1)
}

/// How the groups of a tensor lie among the vectors that a kernel reads.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Groups {
    /// There is one group.
    One,
    /// All elements of a vector belong to one group.
    Rows,
    /// The elements of a vector belong to groups that follow each other, and each vector begins
    /// such a run.
    Columns,
    /// The elements of a vector may belong to any group.
    Any,
}

/// How a kernel reads a tensor whose elements it computes one by one.
#[derive(Debug, Clone, Copy)]
pub struct Lanes {
    /// The number of neighbours that are read together.
    pub vector: usize,
    /// The number of groups; with [`Groups::Columns`], the number of vectors that they fill.
    pub groups: usize,
    /// The number of inner elements; with [`Groups::Rows`], of inner vectors.
    pub inner: usize,
    /// How the groups lie.
    pub of: Groups,
}

impl Lanes {
    /// Decides how the operands, whose axes are in the order of the walk, are read.
    pub fn new(limits: Limits, operands: &[&Operand], view: [usize; 3]) -> Self {
        let [outer, groups, inner] = view;
        let dividing = |run: usize| vector_size(limits, operands, run);
        if groups == 1 {
            return Self { vector: dividing(outer * inner), groups, inner, of: Groups::One };
        }
        if inner == 1 {
            let vector = dividing(groups);
            return Self { vector, groups: groups / vector, inner, of: Groups::Columns };
        }
        match dividing(inner) {
            1 => {
                let limits = Limits { elements: limits.elements.min(MOST_COLUMNS), ..limits };
                let vector = vector_size(limits, operands, outer * groups * inner);
                Self { vector, groups, inner, of: Groups::Any }
            }
            vector => Self { vector, groups, inner: inner / vector, of: Groups::Rows },
        }
    }
}

/// How many sums a unit keeps for a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sums {
    /// The number of sums in registers.
    pub registers: usize,
    /// The number of sums in shared memory.
    pub shared: usize,
    /// Whether a unit keeps sums for one group only.
    pub of_one: bool,
}

/// How the elements of a tensor are divided among cubes that sum the elements of each group. The
/// tensor is viewed as `[outer, groups, inner]`. If groups lie side by side, a *column* is as many
/// groups as a vector has elements; else it is one group.
#[derive(Debug, Clone, Copy)]
pub struct Tiling {
    /// The number of neighbours that are read together.
    pub vector: usize,
    /// How the groups lie.
    pub of: Groups,
    /// The number of columns.
    pub columns: usize,
    /// The number of vectors of a column.
    pub length: usize,
    /// The number of vectors between two outer steps of a column.
    pub inner: usize,
    /// The number of columns that a cube sums next to each other: a power of two.
    pub width: usize,
    /// The number of tiles of `width` columns.
    pub tiles: usize,
    /// The number of cubes that share a tile.
    pub splits: usize,
    /// The number of units of a cube: a power of two.
    pub units: usize,
}

impl Sums {
    /// Returns the sums of a kernel that keeps all of them in registers, for several groups if they
    /// are few.
    pub fn in_registers(registers: usize) -> Self {
        Self { registers, shared: 0, of_one: false }
    }

    /// Returns the number of sums.
    pub fn all(self) -> usize {
        self.registers + self.shared
    }

    /// Returns whether a unit keeps the sums of this many groups that lie side by side.
    pub fn fit(self, groups: usize) -> bool {
        groups == 1 || (!self.of_one && groups * self.registers <= MOST_SUMS)
    }

    /// Returns the largest number of units of a cube, a power of two up to `most`, for which shared
    /// memory holds their sums, one number of each unit for adding them, what the units read about
    /// the pieces of the widest tile of columns, and the place of the cube.
    pub fn units(self, most: usize) -> usize {
        // Kernels that need many registers would spill some in larger cubes.
        let most = if self.of_one { most.min(UNITS) } else { most };
        let free = SHARED_NUMBERS - 3 - numbers_of_pieces(self.shared) * MOST_WIDTH;
        most.min(1 << (free / (1 + self.shared)).ilog2())
    }
}

/// Returns how many numbers of a column a cube keeps in shared memory if there are this many bounds
/// between pieces: the bounds, and two numbers of each piece.
pub(crate) fn numbers_of_pieces(bounds: usize) -> usize {
    bounds + 2 * bounds.saturating_sub(1)
}

impl Tiling {
    /// Divides the operands, whose axes are in the order of the walk.
    ///
    /// # Panics
    /// If more than 2³¹ vectors of one of several groups follow each other: with numbers of 32 bits
    /// that is a run of over 8 GB.
    pub fn new(limits: Limits, operands: &[&Operand], view: [usize; 3], sums: Sums) -> Self {
        let [outer, groups, inner] = view;
        let side_by_side = groups > 1 && inner == 1;
        let limits = limits.of_groups(view);
        let mut vector = if side_by_side {
            vector_size(limits, operands, groups)
        } else {
            vector_size(limits, operands, if groups == 1 { outer * inner } else { inner })
        };
        if side_by_side && !sums.fit(vector) {
            vector = 1;
        }
        let (of, columns, length, inner) = if side_by_side {
            (Groups::Columns, groups / vector, outer, 1)
        } else if groups == 1 {
            (Groups::One, 1, outer * inner / vector, 1)
        } else {
            // Kernels divide by the last number, also where a tensor is empty.
            (Groups::Rows, groups, outer * inner / vector, (inner / vector).max(1))
        };
        assert!(
            of != Groups::Rows || inner <= MOST_INNER,
            "{inner} vectors of a group follow each other in memory; at most {MOST_INNER} may"
        );
        let width = if side_by_side { columns.next_power_of_two().min(MOST_WIDTH) } else { 1 };
        let tiles = columns.div_ceil(width);
        let rows = |units: usize| units / width;
        let steps = (ELEMENTS_ALONE / vector).max(1);
        // In larger cubes, kernels would spill registers if they keep sums of several groups, or if
        // they have addresses of 64 bits. Tensors of such a length would not gain either.
        let is_long = longest(operands) > 1 << 30;
        let of_several = side_by_side && vector > 1;
        let most = if is_long || of_several { UNITS } else { limits.units };
        let [few, many] = [UNITS, most].map(|units| sums.units(units));
        let alone = [few, many].into_iter().find(|units| length <= rows(*units) * steps);
        let most = length.div_ceil(rows(few) * VECTORS_OF_UNIT);
        let splits = match alone {
            Some(_) => 1,
            None => limits.cubes.div_ceil(tiles).clamp(1, most.max(1)),
        };
        let units = alone.unwrap_or(few);
        Self { vector, of, columns, length, inner, width, tiles, splits, units }
    }

    /// Returns the numbers that kernels get of this division, in the order of the fields of `Path`.
    /// Those of rows carry a step over the end of `inner` vectors to the next ones of the column.
    pub fn numbers(&self) -> [usize; 8] {
        let Self { of, columns, length, inner, width, tiles, splits, units, .. } = *self;
        let step = splits * (units / width);
        let (stride, inside, others) = match of {
            Groups::Rows => {
                let inside = step % inner;
                (step / inner * columns * inner + inside, inside, columns.saturating_sub(1) * inner)
            }
            _ => (step * columns, 0, 0),
        };
        [columns, tiles, splits, columns * length, inner, stride, inside, others]
    }

    /// Returns these numbers as the argument of a kernel.
    pub(crate) fn path(&self) -> PathLaunch {
        let [columns, tiles, splits, end, inner, stride, inside, others] = self.numbers();
        PathLaunch::new(columns, tiles, splits, end, inner, stride, inside, others)
    }

    /// Returns the type that indexes all of these tensors, also one step behind their ends.
    pub(crate) fn address_type(&self, operands: &[&Operand]) -> AddressType {
        let [_, _, _, end, _, stride, _, others] = self.numbers();
        let behind = end.saturating_add(stride).saturating_add(others);
        AddressType::from_len(longest(operands).max(behind))
    }
}

/// The number of 32-bit numbers for which every device has shared memory: WebGPU's default limit.
const SHARED_NUMBERS: usize = 4096;

/// The largest number of vectors of one of several groups that follow each other. Kernels count
/// them in 32 bits, also one step behind the last.
pub(crate) const MOST_INNER: usize = 1 << 31;

/// The largest number of columns that a cube sums next to each other.
const MOST_WIDTH: usize = 32;

/// The number of sums that a unit keeps in registers for several groups.
const MOST_SUMS: usize = 8;

/// The number of groups of which a unit reads parameters or keeps sums, except for the elements of
/// groups that lie side by side in a batch norm. With eight, some kernels spill registers.
const MOST_COLUMNS: usize = 4;

/// The number of vectors that a unit sums at least, if there are so many.
const VECTORS_OF_UNIT: usize = 4;

/// The number of elements of a unit up to which one cube sums a column alone, which saves the
/// launch that adds the sums of several cubes.
const ELEMENTS_ALONE: usize = 64;
