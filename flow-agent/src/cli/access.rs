//! How the store is reached: options that every command with a store has.

use clap::Args;
use flow_agent::sink::{AccessConfig, Codec, PasswordFile, TlsFiles};

/// User, password and certificates; never a password itself, which others could see.
#[derive(Debug, Args)]
#[command(next_help_heading = "Store access")]
pub struct AccessArgs {
    /// User of the store [default: that of the URL, or the server's default]
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// File with the user's password, readable by its owner alone, or credential:NAME of systemd
    #[arg(long, value_name = "FILE", value_parser = password_file)]
    pub password_file: Option<PasswordFile>,
    /// Authorities (PEM) that are trusted for https [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<String>,
    /// The agent's own certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "client_key")]
    pub client_cert: Option<String>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    pub client_key: Option<String>,
    /// What inserts are compressed with [default: nothing on this host, lz4 elsewhere]
    #[arg(long, value_name = "CODEC")]
    pub compression: Option<Codec>,
}

impl AccessArgs {
    /// What was typed, as it is; files are not looked at.
    pub fn config(self) -> AccessConfig {
        AccessConfig {
            user: self.user,
            password_file: self.password_file,
            tls: TlsFiles {
                ca: self.ca_file.map(Into::into),
                client: self.client_cert.zip(self.client_key).map(|(c, k)| (c.into(), k.into())),
            },
            codec: self.compression,
            ..AccessConfig::default()
        }
    }
}

fn password_file(text: &str) -> Result<PasswordFile, &'static str> {
    PasswordFile::parse(text)?.ok_or("write the path of a file, or credential:NAME")
}
