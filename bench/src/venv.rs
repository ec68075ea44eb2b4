//! The Python environment of the reference service, made once and kept until its requirements
//! change.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Makes sure that `venv` has what `requirements` lists; returns its Python.
pub fn prepare(requirements: &Path, venv: &Path) -> Result<PathBuf> {
    let wanted = fs::read(requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
    let python = venv.join("bin/python");
    // Written last: an environment without it is half made.
    let marker = venv.join("installed.txt");
    if fs::read(&marker).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    eprintln!("making {} with pip, once", venv.display());
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(venv))?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(requirements))?;
    fs::write(&marker, wanted).with_context(|| format!("cannot write {}", marker.display()))?;
    Ok(python)
}

/// Runs a command to its end; if it fails, the error is its last line.
fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_owned();
    let output = command.output().with_context(|| format!("cannot run {}", program.display()))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let last = said.trim().lines().last().unwrap_or("it said nothing");
    ensure!(output.status.success(), "{} failed: {last}", program.display());
    Ok(())
}
