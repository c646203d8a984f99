use std::{fs, path::Path, process::ExitCode};

mod cuda;
mod device;
mod kernels;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = Path::new(&arguments[1]);
    fs::create_dir_all(folder).unwrap();
    let all = kernels::all();
    println!("{}", all.len());
    for kernel in all {
        if kernel.name.contains(&arguments[0]) {
            fs::write(folder.join(format!("{}.cu", kernel.name)), cuda::source((kernel.define)())).unwrap();
        }
    }
    ExitCode::SUCCESS
}
