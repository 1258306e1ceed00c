//! Man pages and shell completions from the definition of the command line, for packages.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;

/// Writes `man/`, `bash/`, `zsh/` and `fish/` below this folder.
pub fn generate(folder: &Path) -> io::Result<()> {
    let man = folder.join("man");
    fs::create_dir_all(&man)?;
    clap_mangen::generate_to(Cli::command(), &man)?;
    for (shell, name) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
        let folder = folder.join(name);
        fs::create_dir_all(&folder)?;
        let file = clap_complete::generate_to(shell, &mut Cli::command(), "flow-agent", &folder)?;
        if shell == Shell::Bash {
            // bash-completion looks for the name of the command.
            fs::rename(file, folder.join("flow-agent"))?;
        }
    }
    Ok(())
}
