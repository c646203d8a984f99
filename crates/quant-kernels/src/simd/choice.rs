//! The choice of an instruction set when the program runs.

#[cfg(target_arch = "aarch64")]
use super::sets::Neon;
#[cfg(target_arch = "x86_64")]
use super::sets::{Avx2, Avx2Vnni, Avx512, Avx512Vnni};
use super::{
    Job,
    sets::{Portable, Simd},
};

/// One of the instruction sets. Those with instructions for dot products of integers (VNNI) hold
/// the proof of the set that they extend too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(Avx512Vnni, Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2Vnni(Avx2Vnni, Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    Portable(Portable),
}

impl Set {
    /// Returns the best set that the processor has.
    #[inline]
    pub(super) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = Avx512::detect() {
            return match Avx512Vnni::detect() {
                Some(vnni) => Self::Avx512Vnni(vnni, simd),
                None => Self::Avx512(simd),
            };
        }
        #[cfg(target_arch = "x86_64")]
        if let (Some(vnni), Some(simd)) = (Avx2Vnni::detect(), Avx2::detect()) {
            return Self::Avx2Vnni(vnni, simd);
        }
        Self::detect_narrow()
    }

    /// Returns the best set whose vectors have at most eight floats.
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
        [
            #[cfg(target_arch = "x86_64")]
            Avx512Vnni::detect()
                .zip(Avx512::detect())
                .map(|(vnni, simd)| Self::Avx512Vnni(vnni, simd)),
            #[cfg(target_arch = "x86_64")]
            Avx512::detect().map(Self::Avx512),
            #[cfg(target_arch = "x86_64")]
            Avx2Vnni::detect().zip(Avx2::detect()).map(|(vnni, simd)| Self::Avx2Vnni(vnni, simd)),
            #[cfg(target_arch = "x86_64")]
            Avx2::detect().map(Self::Avx2),
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
            Self::Avx512Vnni(..) => Avx512Vnni::NAME,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => Avx512::NAME,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2Vnni(..) => Avx2Vnni::NAME,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => Avx2::NAME,
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => Neon::NAME,
            Self::Portable(_) => Portable::NAME,
        }
    }

    /// Runs a job that has no dot products of integers, so that it is compiled once for a set with
    /// and without them.
    #[inline(always)]
    pub(super) fn run<J: Job>(self, job: J) -> J::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni(_, simd) | Self::Avx512(simd) => simd.run(job),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2Vnni(_, simd) | Self::Avx2(simd) => simd.run(job),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(simd) => simd.run(job),
            Self::Portable(simd) => simd.run(job),
        }
    }

    /// Runs a job with dot products of integers.
    #[inline(always)]
    pub(super) fn run_dot_products<J: Job>(self, job: J) -> J::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni(vnni, _) => vnni.run(job),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2Vnni(vnni, _) => vnni.run(job),
            set => set.run(job),
        }
    }
}
