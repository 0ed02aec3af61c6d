//! Runs one case of the hot path under callgrind, for `cargo xtask instructions`, which counts.
//!
//! Without a case it prints them all: name, and how many operations [`measured`] does in a process.
//! With a case it runs it often enough to be warm, and then [`measured`], the only function to be counted.

mod cases;
mod crowd;

use std::{env, process::ExitCode};

use cases::{Case, Subject};

/// What the server uses.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const WARM_UP_RUNS: u64 = 8;
const MEASURED_RUNS: u64 = 32;

/// One run. Its name is what callgrind is told, so it is kept as it is.
// SAFETY: nothing else in this program has that name.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn measured(subject: &mut Box<dyn Subject>) {
    subject.run();
}

fn main() -> ExitCode {
    let name = env::args().skip(1).find(|argument| argument != "--bench");
    match name {
        None => {
            for case in cases::all() {
                println!("{}\t{}", full_name(case), MEASURED_RUNS * case.operations);
            }
        }
        Some(name) => match cases::all().find(|case| full_name(case) == name) {
            Some(case) => run(case),
            None => {
                eprintln!("error: there is no case {name:?}");
                return ExitCode::FAILURE;
            }
        },
    }
    ExitCode::SUCCESS
}

fn full_name(case: &Case) -> String {
    format!("{}: {}", case.group, case.name)
}

fn run(case: &Case) {
    let mut subject = (case.prepare)();
    for _ in 0..WARM_UP_RUNS {
        subject.run();
        subject.restore();
    }
    for _ in 0..MEASURED_RUNS {
        measured(&mut subject);
        subject.restore();
    }
}
