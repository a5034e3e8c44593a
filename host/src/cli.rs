//! Commands, their options, and exit codes: 0 done, 1 a step failed, 2 the pipeline or the arguments are wrong,
//! 130 cancelled.

mod init;
mod lock;
mod look;
mod plan;
mod plugin;
mod run;
mod validate;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Predicts what a single cell looks like when a gene is missing.
///
/// Pipelines are TOML files; simulators, models, knockout strategies and metrics are plugins.
///
///   lacuna look cells.h5ad        what is in a file
///   lacuna init cells.h5ad        writes a pipeline for it
///   lacuna run cells.toml         runs it: keystone genes, effects, a report
#[derive(Parser)]
#[command(version, verbatim_doc_comment, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Say more: -v what plugins say, -vv everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Subcommand)]
enum Command {
    /// Run a pipeline. What an earlier run left is used again where nothing changed.
    Run(run::RunArgs),
    /// Say what a run would need, pairs, time, memory and disk, from short trials on this machine.
    Plan(plan::PlanArgs),
    /// Check a pipeline: all problems at once, each with its place. Runs nothing.
    Validate(validate::ValidateArgs),
    /// Write down what a pipeline runs with: plugins, input files, parameters, seeds. `run --locked` holds it to that.
    Lock(PipelineArgs),
    /// Print the steps of a pipeline and what flows between them.
    Graph(validate::GraphArgs),
    /// Say what is in a file of cells: annotations, matrices, counts or not, depth.
    Look(look::LookArgs),
    /// Write a pipeline for a file of cells.
    Init(init::InitArgs),
    /// List, show, explain, try out and write plugins.
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// Run a library in this process for another one.
    #[command(name = lacuna::plugin::WORKER_COMMAND, hide = true)]
    Worker {
        /// The library.
        path: PathBuf,
    },
    /// Limit this process' memory and become another program.
    #[command(name = lacuna::plugin::LIMIT_COMMAND, hide = true)]
    Limit {
        /// Bytes of address space.
        memory: u64,
        /// The program.
        #[arg(last = true)]
        words: Vec<String>,
    },
    /// Load one library and leave; the host asks itself this about files that it does not know.
    #[command(name = lacuna::plugin::PROBE_COMMAND, hide = true)]
    Probe {
        /// The library.
        path: PathBuf,
    },
}

/// What every command that reads a pipeline takes.
#[derive(Args)]
struct PipelineArgs {
    /// A pipeline: a TOML file, or a folder with a pipeline.toml.
    pipeline: PathBuf,
    /// Change a value: --set steps.model.with.steps=100.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Change the pipeline's seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Look for plugins in this folder too.
    #[arg(long, value_name = "DIR")]
    plugin_dir: Vec<PathBuf>,
}

impl PipelineArgs {
    fn check(&self) -> anyhow::Result<lacuna::pipeline::Checked> {
        lacuna::pipeline::check_file(&self.pipeline, &self.options())
    }

    /// The same, with libraries of whatever owner.
    fn check_of_any_owner(&self) -> anyhow::Result<lacuna::pipeline::Checked> {
        let options = lacuna::pipeline::Options { any_owner: true, ..self.options() };
        lacuna::pipeline::check_file(&self.pipeline, &options)
    }

    fn options(&self) -> lacuna::pipeline::Options {
        let mut set = self.set.clone();
        set.extend(self.seed.map(|seed| format!("seed={seed}")));
        lacuna::pipeline::Options { set, plugin_dirs: self.plugin_dir.clone(), any_owner: false }
    }
}

const FAILED: u8 = 1;
const WRONG: u8 = 2;
const CANCELLED: u8 = 130;

/// Parses the arguments and runs the command.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // Warnings of components that are tried out are no news.
    let quiet = matches!(cli.command, Command::Plugin(plugin::PluginCommand::Check(_)) | Command::Plan(_));
    start_logging(cli.verbose, quiet);
    let result = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Plan(args) => plan::plan(&args),
        Command::Validate(args) => validate::validate(&args),
        Command::Lock(args) => lock::lock(&args),
        Command::Graph(args) => validate::graph(&args),
        Command::Look(args) => look::look(&args),
        Command::Init(args) => init::init(&args),
        Command::Plugin(command) => plugin::plugin(&command),
        Command::Worker { path } => {
            let code = lacuna::plugin::serve(&path);
            // Threads of the library may still be at work, for nobody.
            std::process::exit(code);
        }
        Command::Limit { memory, words } => {
            eprintln!("error: {}", lacuna::plugin::limit_and_become(memory, &words));
            return ExitCode::from(FAILED);
        }
        Command::Probe { path } => {
            let code = lacuna::plugin::probe_in_this_process(&path);
            return ExitCode::from(u8::try_from(code).unwrap_or(FAILED));
        }
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(WRONG)
        }
    }
}

fn start_logging(verbose: u8, quiet: bool) {
    let level = match verbose {
        0 if quiet => tracing::Level::ERROR,
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        2 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(|| lacuna::run::BesideBars)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .with_target(verbose > 1)
        .init();
}

/// Prints what is meant for a person or a pipe; a closed pipe is no error.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::{ErrorKind, Write, stdout};
    match stdout().write_all(text.as_bytes()).and_then(|()| stdout().flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(e).context("cannot write to standard output"),
        _ => Ok(()),
    }
}

/// A path as people would write it from here.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let relative = here.as_deref().and_then(|here| path.strip_prefix(here).ok());
    relative.unwrap_or(path).display().to_string()
}
