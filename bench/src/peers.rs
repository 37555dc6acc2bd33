//! Peers in other languages, installed from their registries into the target folder.

use crate::{
    Failure, Plan, data, load,
    process::{Server, on_server_core},
    report::Report,
    serve::Kind,
    serving,
};
use px_types::partner::TransactionsResponse;
use std::{
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::process::Command;

pub(crate) async fn measure(report: &mut Report, plan: Plan) {
    for (name, peer, aim) in [
        ("page of 500, hyper adapter / FastAPI with pydantic", "fastapi", 15.0),
        ("page of 500, hyper adapter / Fastify", "fastify", 5.0),
        ("page of 500, hyper adapter / Express", "express", 5.0),
    ] {
        if !report.wants(name) {
            continue;
        }
        match compare(plan, peer).await {
            Ok((px, other)) => {
                report.at_least(name, format!("{px:.0}/s, {other:.0}/s"), px / other, aim);
            }
            Err(error) => report.not_run(name, &error.to_string()),
        }
    }
}

async fn compare(plan: Plan, peer: &str) -> Result<(f64, f64), Failure> {
    let folder = folder()?;
    let page = folder.join("page.json");
    let rows = data::transactions(500);
    let response = TransactionsResponse::new(500_u64, rows);
    std::fs::write(&page, px_types::wire::encode(&response))?;
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let mut command = if peer == "fastapi" {
        let python = install_python(&folder).await?;
        let mut command = on_server_core(&python);
        command.arg(sources.join("fastapi_server.py"));
        command
    } else {
        install_node(&folder, &sources).await?;
        let mut command = on_server_core("node");
        command.arg(folder.join(format!("{peer}_server.mjs")));
        command
    };
    command.arg(&page).stderr(Stdio::null());
    let other = Server::from_command(command).await?;
    let px = Server::start(Kind::Hyper, 500).await?;
    load::compare(plan, &serving::page_path(), &px, &other).await
}

/// Returns the folder of the peers, which is beside this program, so that `cargo clean` removes it.
fn folder() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe()?;
    let folder = program.parent().ok_or("the program has no folder")?;
    let folder = folder.join("bench-peers");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

async fn install_python(folder: &Path) -> Result<String, Failure> {
    let python = folder.join("venv/bin/python");
    let ready = folder.join("venv/ready");
    let python_text = python.to_str().ok_or("a path that is not UTF-8")?.to_owned();
    if !ready.exists() {
        let venv = folder.join("venv");
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv)).await?;
        let packages = ["fastapi", "pydantic", "uvicorn[standard]"];
        run(Command::new(&python).args(["-m", "pip", "install", "-q"]).args(packages)).await?;
        std::fs::write(&ready, "")?;
    }
    Ok(python_text)
}

async fn install_node(folder: &Path, sources: &Path) -> Result<(), Failure> {
    for name in ["fastify_server.mjs", "express_server.mjs"] {
        std::fs::copy(sources.join(name), folder.join(name))?;
    }
    if !folder.join("node_modules/express").exists() {
        std::fs::write(folder.join("package.json"), "{\"private\":true}\n")?;
        let arguments = ["install", "--silent", "--no-audit", "--no-fund", "fastify", "express"];
        run(Command::new("npm").args(arguments).current_dir(folder)).await?;
    }
    Ok(())
}

async fn run(command: &mut Command) -> Result<(), Failure> {
    let name = format!("{:?}", command.as_std().get_program());
    let output = command.stdin(Stdio::null()).output().await;
    let output = output.map_err(|error| format!("{name} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.trim().lines().last().unwrap_or_default().to_owned();
    Err(format!("could not be installed: {last}").into())
}
