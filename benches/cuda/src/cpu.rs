//! Kernels that were compiled to CUDA C++, and then by a C++ compiler for the CPU.

use std::{
    ffi::c_void,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use libloading::Library;

/// Compiles CUDA C++ for the CPU.
pub struct HostCompiler {
    /// The folder of CUDA's headers, for 16-bit types.
    include: PathBuf,
    /// The folder into which programs are written.
    folder: PathBuf,
}

/// Without contraction, a product and a sum are rounded as in Rust.
const OPTIONS: [&str; 5] = ["-O0", "-std=c++17", "-w", "-fPIC", "-ffp-contract=off"];

/// A kernel as a function of this process.
pub struct HostKernel {
    library: Arc<Library>,
    /// The number of the kernel in the library.
    index: usize,
}

/// A tensor in the memory of the host.
pub enum Buffer<'a> {
    F32(&'a mut [f32]),
    Bits16(&'a mut [u16]),
}

/// The numbers that a kernel is given beside its tensors, in the order of its arguments.
#[derive(Default)]
pub struct Scalars<'a> {
    /// The integers of the width of addresses.
    pub integers: &'a [u64],
    /// The integers of 32 bits.
    pub words: &'a [u32],
    pub floats: &'a [f32],
}

type Run = unsafe extern "C" fn(*const *mut c_void, *const u64, *const u32, *const f32, u32, u32);

impl HostCompiler {
    /// Prepares a folder, with the header that all programs include.
    pub fn new(include: PathBuf, folder: PathBuf) -> Result<Self, String> {
        let header = folder.join("shim.h");
        fs::write(&header, include_str!("shim.h")).map_err(|error| format!("shim.h: {error}"))?;
        let compiler = Self { include, folder };
        let compiled = header.with_extension("h.gch");
        compiler.run_compiler(&["-x", "c++-header"], &header, &compiled)?;
        Ok(compiler)
    }

    fn run_compiler(&self, options: &[&str], source: &Path, out: &Path) -> Result<(), String> {
        let output = Command::new("g++")
            .args(OPTIONS)
            .arg("-I")
            .arg(&self.include)
            .args(options)
            .arg(source)
            .arg("-o")
            .arg(out)
            .output()
            .map_err(|error| format!("g++: {error}"))?;
        let log = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(()) } else { Err(format!("{}: {log}", source.display())) }
    }

    /// Compiles kernels into one program. `name` is the name of its files.
    pub fn compile(&self, sources: &[String], name: &str) -> Result<Vec<HostKernel>, String> {
        let program = self.folder.join(format!("{name}.cpp"));
        let library = self.folder.join(format!("{name}.so"));
        let mut text = String::from("#include \"shim.h\"\n");
        for (index, source) in sources.iter().enumerate() {
            text += &host_source(source, index)?;
        }
        fs::write(&program, text).map_err(|error| format!("{}: {error}", program.display()))?;
        self.run_compiler(&["-shared"], &program, &library)?;
        // SAFETY: the library has no code that runs when it is loaded.
        let library = unsafe { Library::new(Path::new(&library)) };
        let library = Arc::new(library.map_err(|error| error.to_string())?);
        let kernel = |index| HostKernel { library: Arc::clone(&library), index };
        Ok((0..sources.len()).map(kernel).collect())
    }
}

impl HostKernel {
    /// Runs the kernel on `blocks` blocks of `threads` threads.
    ///
    /// # Panics
    /// If the compiled library lacks its function.
    pub fn run(
        &self,
        buffers: &mut [Buffer<'_>],
        scalars: Scalars<'_>,
        [blocks, threads]: [usize; 2],
    ) {
        let pointers: Vec<*mut c_void> = buffers
            .iter_mut()
            .map(|buffer| match buffer {
                Buffer::F32(values) => values.as_mut_ptr().cast(),
                Buffer::Bits16(values) => values.as_mut_ptr().cast(),
            })
            .collect();
        let integers = padded(scalars.integers);
        let words = padded(scalars.words);
        let floats = padded(scalars.floats);
        // SAFETY: `host_source` writes `run` with this signature.
        let run = unsafe { self.library.get::<Run>(format!("run{}", self.index).as_bytes()) }
            .expect("the library has the function");
        // SAFETY: a kernel stays within its buffers, which the caller made as long as the numbers
        // that it passes say; it writes only buffers of which it has the only reference.
        unsafe {
            run(
                pointers.as_ptr(),
                integers.as_ptr(),
                words.as_ptr(),
                floats.as_ptr(),
                blocks as u32,
                threads as u32,
            );
        }
    }
}

/// Returns the numbers with zeros behind them, since `host_source` reads as many numbers as the
/// kernel has.
fn padded<T: Copy + Default>(numbers: &[T]) -> Vec<T> {
    let mut all = numbers.to_vec();
    all.resize(numbers.len().next_multiple_of(64) + 64, T::default());
    all
}

/// Returns a part of a C++ program with a function `run<index>` that runs a kernel. `shim.h`
/// includes what CubeCL includes.
fn host_source(source: &str, index: usize) -> Result<String, String> {
    let mut text = format!("namespace kernel{index} {{\n");
    for line in source.lines() {
        let line = line.trim_end();
        if ["typedef unsigned", "typedef signed", "#include"]
            .iter()
            .any(|start| line.starts_with(start))
        {
            continue;
        }
        let line = line.strip_prefix("extern \"C\" ").unwrap_or(line);
        if let Some((before, rest)) = line.split_once("extern __shared__ __align__(") {
            let (align, rest) = rest.split_once(')').ok_or("an alignment")?;
            let (name, after) = rest
                .trim_start()
                .strip_prefix("char ")
                .and_then(|rest| rest.split_once("[];"))
                .ok_or("the name of shared memory")?;
            text += &format!("{before}alignas({align}) static char {name}[65536];{after}\n");
            continue;
        }
        text += line;
        text.push('\n');
    }
    let at = source.find("__global__").ok_or("a kernel")?;
    let signature = &source[at..source[at..].find('{').map_or(source.len(), |end| at + end)];
    let name = signature
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .find(|word| word.contains("_kernel"))
        .ok_or("the name of the kernel")?;
    let buffers = signature.matches("__restrict__").count();
    let length = |field: &str| -> Option<usize> {
        let at = source.find(field)? + field.len();
        source[at..].split_once(']')?.0.parse().ok()
    };
    let mut fill = String::new();
    for (field, value) in [
        ("scalars_usize[", "integers[i]"),
        ("scalars_index[", "integers[i]"),
        ("scalars_u32[", "words[i]"),
        ("scalars_f32[", "floats[i]"),
        ("static_meta[", "0x7fffffff"),
    ] {
        if let Some(count) = length(field) {
            let name = field.trim_end_matches('[');
            fill += &format!("    for (int i = 0; i < {count}; i++) info.{name}[i] = {value};\n");
        }
    }
    text += &format!(
        "extern \"C\" void run{index}(void **buffers, const uint64_t *integers, \
         const uint32_t *words, const float *floats, unsigned blocks, unsigned threads) {{\n    \
         info_st info{{}};\n{fill}    \
         void *values[{buffers} + 1];\n    \
         for (int i = 0; i < {buffers}; i++) values[i] = buffers[i];\n    \
         values[{buffers}] = &info;\n    launch({name}, values, blocks, threads);\n}}\n}}\n"
    );
    Ok(text)
}
