//! Functions that the tests of the program share.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

#[macro_use]
#[allow(unused_macros, reason = "each test program uses a part")]
#[path = "../../../quant-train/tests/common/phases.rs"]
mod phases;

/// The start of a recipe for images of 32 pixels, to which phases are added. `$data` and `$model`
/// are further fields of these tables.
macro_rules! tiny {
    ($data:literal, $model:literal) => {
        concat!(
            "name = 'tiny'\ndata = { input_size = 32, ",
            $data,
            " }\nmodel = { ",
            $model,
            " }\n"
        )
    };
}

/// A folder with a recipe, in which commands are run.
pub(crate) struct Desk {
    pub(crate) folder: tempfile::TempDir,
}

impl Desk {
    /// Creates a folder with the recipe `tiny.toml`.
    pub(crate) fn new(recipe: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tiny.toml"), recipe).unwrap();
        Self { folder }
    }

    /// Returns a path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns a command that will be run in the folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quant"));
        command.args(arguments).current_dir(self.folder.path());
        command.env("XDG_CACHE_HOME", self.path("cache"));
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command, and returns its output.
    pub(crate) fn quant(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that has to succeed, and returns what it prints.
    pub(crate) fn says(&self, arguments: &[&str]) -> String {
        let output = self.quant(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that has to fail, and returns its messages.
    pub(crate) fn fails(&self, arguments: &[&str]) -> String {
        let output = self.quant(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}
