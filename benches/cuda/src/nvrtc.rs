//! NVRTC and `ptxas`, which compile for a GPU without having one.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    path::{Path, PathBuf},
    process::Command,
    ptr,
};

use libloading::{
    Library, Symbol,
    os::unix::{Library as UnixLibrary, RTLD_GLOBAL, RTLD_NOW},
};

/// NVIDIA's compilers, as the Python packages `nvidia-cuda-nvrtc`, `nvidia-cuda-runtime` and
/// `nvidia-cuda-nvcc` install them.
pub struct Compilers {
    nvrtc: Library,
    /// NVRTC looks for it by its name alone, and finds it because it is loaded.
    _builtins: UnixLibrary,
    include: PathBuf,
    ptxas: PathBuf,
}

/// What `ptxas` reports of a kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// The registers of a thread.
    pub registers: usize,
    /// The bytes that a thread spills to memory, and reads back.
    pub spilled: usize,
    /// The bytes of a thread's local memory.
    pub stack: usize,
}

/// NVRTC's result code of success.
const SUCCESS: c_int = 0;

type Program = *mut c_void;
type OfProgram<T> = unsafe extern "C" fn(Program, T) -> c_int;

impl Compilers {
    /// Opens the compilers below `folder`, which is named `cu13`.
    pub fn open(folder: &Path) -> Result<Self, String> {
        let ptxas = folder.join("bin/ptxas");
        if !ptxas.exists() {
            return Err(format!("{} does not exist; install nvidia-cuda-nvcc", ptxas.display()));
        }
        let fail = |path: &Path, error: libloading::Error| {
            format!("{} cannot be opened: {error}", path.display())
        };
        let path = folder.join("lib/libnvrtc-builtins.so.13.0");
        // SAFETY: loading NVIDIA's libraries runs no code but their initialisation.
        let builtins = unsafe { UnixLibrary::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) }
            .map_err(|error| fail(&path, error))?;
        let path = folder.join("lib/libnvrtc.so.13");
        // SAFETY: as above.
        let nvrtc = unsafe { Library::new(&path) }.map_err(|error| fail(&path, error))?;
        Ok(Self { nvrtc, _builtins: builtins, include: folder.join("include"), ptxas })
    }

    fn function<T>(&self, name: &str) -> Symbol<'_, T> {
        // SAFETY: the types of the callers are those of `nvrtc.h`.
        unsafe { self.nvrtc.get(name.as_bytes()) }.expect("NVRTC has its functions")
    }

    /// Compiles CUDA C++ to PTX for an architecture, such as `80` or `90a`.
    pub fn ptx(&self, source: &str, architecture: &str) -> Result<String, String> {
        type Create = unsafe extern "C" fn(
            *mut Program,
            *const c_char,
            *const c_char,
            c_int,
            *const *const c_char,
            *const *const c_char,
        ) -> c_int;
        type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
        let source = CString::new(source).expect("a source without NUL");
        let options = [
            format!("--gpu-architecture=compute_{architecture}"),
            format!("--include-path={}", self.include.display()),
        ]
        .map(|option| CString::new(option).expect("an option without NUL"));
        let pointers = options.each_ref().map(|option| option.as_ptr());
        let mut program: Program = ptr::null_mut();
        let create: Symbol<'_, Create> = self.function("nvrtcCreateProgram");
        let compile: Symbol<'_, Compile> = self.function("nvrtcCompileProgram");
        let destroy: Symbol<'_, unsafe extern "C" fn(*mut Program) -> c_int> =
            self.function("nvrtcDestroyProgram");
        // SAFETY: the pointers live until the calls return, and the program until it is destroyed.
        unsafe {
            let created =
                create(&mut program, source.as_ptr(), ptr::null(), 0, ptr::null(), ptr::null());
            assert_eq!(created, SUCCESS, "nvrtcCreateProgram");
            let compiled = compile(program, pointers.len() as c_int, pointers.as_ptr());
            let result = if compiled == SUCCESS {
                Ok(self.text(program, "nvrtcGetPTXSize", "nvrtcGetPTX"))
            } else {
                Err(self.text(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog"))
            };
            destroy(&mut program);
            result
        }
    }

    /// # Safety
    /// The program must not have been destroyed.
    unsafe fn text(&self, program: Program, size: &str, text: &str) -> String {
        let size_of: Symbol<'_, OfProgram<*mut usize>> = self.function(size);
        let text_of: Symbol<'_, OfProgram<*mut c_char>> = self.function(text);
        let mut length = 0;
        // SAFETY: the buffer has the length that NVRTC asks for, which counts the final NUL.
        unsafe {
            size_of(program, &mut length);
            let mut bytes = vec![0u8; length + 1];
            text_of(program, bytes.as_mut_ptr().cast());
            CStr::from_bytes_until_nul(&bytes).expect("a final NUL").to_string_lossy().into_owned()
        }
    }

    /// Assembles PTX, and returns what the kernel needs.
    pub fn assemble(&self, ptx: &Path, architecture: &str) -> Result<Resources, String> {
        let output = Command::new(&self.ptxas)
            .arg(format!("-arch=sm_{architecture}"))
            .args(["-v", "-o", "/dev/null"])
            .arg(ptx)
            .output()
            .map_err(|error| format!("ptxas: {error}"))?;
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            return Err(log);
        }
        let before = |words: &str| {
            let at = log.find(words)?;
            log[..at]
                .rsplit(|c: char| !c.is_ascii_digit())
                .find(|word| !word.is_empty())?
                .parse()
                .ok()
        };
        Ok(Resources {
            registers: before(" registers").ok_or_else(|| format!("no registers in {log}"))?,
            spilled: before(" bytes spill stores").unwrap_or(0)
                + before(" bytes spill loads").unwrap_or(0),
            stack: before(" bytes stack frame").unwrap_or(0),
        })
    }
}

/// The number of registers of a multiprocessor.
const REGISTERS: usize = 65_536;

/// Returns PTX that tells `ptxas` to run just as many blocks at the same time as there are
/// registers for, if each thread has this many. Without, it may spill some to run one block more.
pub fn allowing_registers(ptx: &str, registers: usize) -> Result<String, String> {
    let is_bound = |line: &&str| line.starts_with(".maxntid") || line.starts_with(".reqntid");
    let bound = ptx.lines().find(is_bound).ok_or("the PTX does not say how many threads run")?;
    let threads = bound
        .split(|c: char| !c.is_ascii_digit())
        .find(|word| !word.is_empty())
        .and_then(|word| word.parse::<usize>().ok())
        .ok_or_else(|| format!("no number of threads in {bound}"))?;
    let blocks = REGISTERS / (registers * threads);
    Ok(ptx.replacen(bound, &format!("{bound}\n.minnctapersm {blocks}"), 1))
}
