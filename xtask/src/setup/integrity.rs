//! Hashes of files: the npm integrity of a download, and the record of a library in place.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256, Sha512};

/// The integrity of a file as npm writes it: `sha512-` and the hash in base64.
pub fn npm(path: &Path) -> Result<String> {
    Ok(format!("sha512-{}", STANDARD.encode(hash::<Sha512>(path)?)))
}

/// The SHA-256 of a file in base64.
pub fn sha256(path: &Path) -> Result<String> {
    Ok(STANDARD.encode(hash::<Sha256>(path)?))
}

fn hash<D: Digest>(path: &Path) -> Result<Vec<u8>> {
    let context = || format!("cannot read {}", path.display());
    let mut file = BufReader::new(File::open(path).with_context(context)?);
    let mut digest = D::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut buffer).with_context(context)?;
        if length == 0 {
            return Ok(digest.finalize().to_vec());
        }
        digest.update(&buffer[..length]);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn npm_integrity_of_nothing() {
        let path = std::path::Path::new("/dev/null");
        let expected = "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==";
        assert_eq!(super::npm(path).unwrap(), expected);
    }
}
