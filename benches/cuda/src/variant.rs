//! The types, vectors, layouts and widths of addresses that kernels are compiled for.

use cubecl::{
    ir::{ElemType, FloatKind},
    prelude::*,
};
use quant_cube::{Groups, Sums};

/// A type of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    F32,
    F16,
    BF16,
}

impl Type {
    pub const ALL: [Type; 3] = [Type::F32, Type::F16, Type::BF16];

    pub fn elem(self) -> ElemType {
        ElemType::Float(match self {
            Type::F32 => FloatKind::F32,
            Type::F16 => FloatKind::F16,
            Type::BF16 => FloatKind::BF16,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Type::F32 => "f32",
            Type::F16 => "f16",
            Type::BF16 => "bf16",
        }
    }

    /// Returns the number of elements in 16 bytes, which is the longest vector.
    fn widest(self) -> usize {
        match self {
            Type::F32 => 4,
            Type::F16 | Type::BF16 => 8,
        }
    }
}

/// The properties that a kernel is compiled for, beside those of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    pub elements: Type,
    /// The type of results, and of their gradients.
    pub results: Type,
    pub parameters: Type,
    pub vector: usize,
    pub wide_addresses: bool,
    pub groups: Groups,
    /// The number of columns that a block sums next to each other.
    pub width: usize,
    /// Whether the gradient lies in memory in another order than x.
    pub strided: bool,
}

impl Variant {
    /// Returns whether launches choose blocks of [`MOST_UNITS`] for such a kernel.
    pub fn takes_large_blocks(self) -> bool {
        !self.wide_addresses && (self.groups != Groups::Columns || self.vector == 1)
    }

    /// Returns the variant whose vectors have at most four elements.
    fn with_few_groups(self) -> Self {
        Self { vector: self.vector.min(4), ..self }
    }

    pub fn address(self) -> AddressType {
        if self.wide_addresses { AddressType::U64 } else { AddressType::U32 }
    }

    pub fn name(self) -> String {
        let results = if self.results == self.elements {
            String::new()
        } else {
            format!("to_{}_", self.results.name())
        };
        format!(
            "{}_{results}{}_v{}_{}_{:?}{}{}",
            self.elements.name(),
            self.parameters.name(),
            self.vector,
            if self.wide_addresses { "u64" } else { "u32" },
            self.groups,
            self.width,
            if self.strided { "_strided" } else { "" },
        )
        .to_lowercase()
    }
}

/// The number of threads of a block.
pub const UNITS: usize = 256;

/// The number of threads of a block that sums a column of medium length alone.
pub const MOST_UNITS: usize = 1024;

/// Returns the variants of kernels that compute element by element. Launches read rows by vectors
/// or as `Any`.
pub fn elementwise() -> Vec<Variant> {
    let layouts = [(Groups::One, 1), (Groups::Rows, 1), (Groups::Columns, 1), (Groups::Any, 1)];
    let narrow = |v: Variant| match v.groups {
        Groups::Any => v.with_few_groups(),
        _ => v,
    };
    let mut all: Vec<_> = variants(&layouts).into_iter().map(narrow).collect();
    all.retain(|v| v.groups != Groups::Rows || v.vector > 1);
    all
}

/// Returns the variants of kernels that quantize element by element.
pub fn quantizing() -> Vec<Variant> {
    elementwise().into_iter().map(narrow_columns).collect()
}

/// Returns the variants of kernels that sum over groups.
pub fn summing() -> Vec<Variant> {
    let layouts =
        [(Groups::One, 1), (Groups::Rows, 1), (Groups::Columns, 1), (Groups::Columns, 32)];
    variants(&layouts).into_iter().map(narrow_columns).collect()
}

/// Of groups that lie side by side, a vector has at most four.
fn narrow_columns(v: Variant) -> Variant {
    match v.groups {
        Groups::Columns => v.with_few_groups(),
        _ => v,
    }
}

fn variants(layouts: &[(Groups, usize)]) -> Vec<Variant> {
    let mut all = Vec::new();
    for elements in Type::ALL {
        for (groups, width) in layouts.iter().copied() {
            let plain = |parameters, vector, wide_addresses| Variant {
                elements,
                results: elements,
                parameters,
                vector,
                wide_addresses,
                groups,
                width,
                strided: false,
            };
            all.push(plain(Type::F32, 1, false));
            all.push(plain(elements, elements.widest(), true));
            all.push(Variant { strided: true, ..plain(Type::F32, 1, true) });
            all.push(plain(Type::F32, elements.widest(), false));
            // What a quantizer writes for a convolution, and what a norm reads from one.
            let others = match elements {
                Type::F32 => vec![Type::F16, Type::BF16],
                Type::F16 | Type::BF16 => vec![Type::F32],
            };
            for results in others {
                all.push(Variant { results, ..plain(Type::F32, 4, false) });
            }
        }
    }
    all.dedup();
    all
}

/// Returns whether `Tiling` chooses such a variant for these sums.
pub fn fits(v: Variant, sums: Sums) -> bool {
    v.groups != Groups::Columns || (v.vector <= 4 && sums.fit(v.vector))
}
