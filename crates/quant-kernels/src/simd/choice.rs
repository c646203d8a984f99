//! The choice of an instruction set when the program runs.

#[cfg(target_arch = "x86_64")]
use super::sets::{Avx2, Avx2Vnni, Avx512, Avx512Popcnt, Avx512Vnni};
#[cfg(target_arch = "aarch64")]
use super::sets::{Neon, NeonDot, NeonI8mm};
use super::{
    operations::{Job, Simd},
    portable::Portable,
};

/// One of the instruction sets. Those with instructions for dot products of integers, or for the
/// population count of vectors, hold the proofs of the sets that they extend too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    #[cfg(target_arch = "x86_64")]
    Avx512Popcnt(Avx512Popcnt, Avx512Vnni, Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(Avx512Vnni, Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2Vnni(Avx2Vnni, Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "aarch64")]
    NeonI8mm(NeonI8mm, Neon),
    #[cfg(target_arch = "aarch64")]
    NeonDot(NeonDot, Neon),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    Portable(Portable),
}

impl Set {
    /// Returns the best set that the processor has.
    #[inline]
    pub(super) fn detect() -> Self {
        Self::available().next().unwrap_or(Self::Portable(Portable))
    }

    /// Returns the best set whose vectors have at most eight floats.
    #[cfg(feature = "training")]
    #[inline]
    pub(super) fn detect_narrow() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = Avx2::detect() {
            return Self::Avx2(simd);
        }
        #[cfg(target_arch = "aarch64")]
        if let Some(simd) = Neon::detect() {
            return Self::Neon(simd);
        }
        Self::Portable(Portable)
    }

    /// Returns all sets that the processor has, the best first.
    pub(super) fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let vnni = || Avx512Vnni::detect().zip(Avx512::detect());
        [
            #[cfg(target_arch = "x86_64")]
            Avx512Popcnt::detect()
                .zip(vnni())
                .map(|(counts, (vnni, simd))| Self::Avx512Popcnt(counts, vnni, simd)),
            #[cfg(target_arch = "x86_64")]
            vnni().map(|(vnni, simd)| Self::Avx512Vnni(vnni, simd)),
            #[cfg(target_arch = "x86_64")]
            Avx512::detect().map(Self::Avx512),
            #[cfg(target_arch = "x86_64")]
            Avx2Vnni::detect().zip(Avx2::detect()).map(|(vnni, simd)| Self::Avx2Vnni(vnni, simd)),
            #[cfg(target_arch = "x86_64")]
            Avx2::detect().map(Self::Avx2),
            #[cfg(target_arch = "aarch64")]
            NeonI8mm::detect().zip(Neon::detect()).map(|(dot, simd)| Self::NeonI8mm(dot, simd)),
            #[cfg(target_arch = "aarch64")]
            NeonDot::detect().zip(Neon::detect()).map(|(dot, simd)| Self::NeonDot(dot, simd)),
            #[cfg(target_arch = "aarch64")]
            Neon::detect().map(Self::Neon),
            Some(Self::Portable(Portable)),
        ]
        .into_iter()
        .flatten()
    }

    /// Returns the name.
    pub(super) fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Popcnt(..) => Avx512Popcnt::NAME,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni(..) => Avx512Vnni::NAME,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => Avx512::NAME,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2Vnni(..) => Avx2Vnni::NAME,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => Avx2::NAME,
            #[cfg(target_arch = "aarch64")]
            Self::NeonI8mm(..) => NeonI8mm::NAME,
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot(..) => NeonDot::NAME,
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => Neon::NAME,
            Self::Portable(_) => Portable::NAME,
        }
    }

    /// Runs a job that has neither dot products nor counts, so that it is compiled once for a set
    /// with and without them.
    #[inline(always)]
    pub(super) fn run<J: Job>(self, job: J) -> J::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Popcnt(.., simd) | Self::Avx512Vnni(_, simd) | Self::Avx512(simd) => {
                simd.run(job)
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2Vnni(_, simd) | Self::Avx2(simd) => simd.run(job),
            #[cfg(target_arch = "aarch64")]
            Self::NeonI8mm(_, simd) | Self::NeonDot(_, simd) | Self::Neon(simd) => simd.run(job),
            Self::Portable(simd) => simd.run(job),
        }
    }

    /// Runs a job with dot products of integers.
    #[inline(always)]
    pub(super) fn run_dot_products<J: Job>(self, job: J) -> J::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Popcnt(_, vnni, _) | Self::Avx512Vnni(vnni, _) => vnni.run(job),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2Vnni(vnni, _) => vnni.run(job),
            #[cfg(target_arch = "aarch64")]
            Self::NeonI8mm(dot, _) => dot.run(job),
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot(dot, _) => dot.run(job),
            set => set.run(job),
        }
    }

    /// Runs a job with counts of bits.
    #[inline(always)]
    pub(super) fn run_counts<J: Job>(self, job: J) -> J::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Popcnt(counts, ..) => counts.run(job),
            set => set.run(job),
        }
    }

    /// Returns whether dot products of bytes have an instruction.
    pub(super) fn has_dot_products(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Popcnt(..) | Self::Avx512Vnni(..) | Self::Avx2Vnni(..) => true,
            #[cfg(target_arch = "aarch64")]
            Self::NeonI8mm(..) | Self::NeonDot(..) => true,
            _ => false,
        }
    }
}
