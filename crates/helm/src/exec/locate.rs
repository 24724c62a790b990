//! Finds a program as a shell would, once: its runs have neither our PATH nor our working folder.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
};

/// The absolute path of `program`; a bare name is looked for in the folders of `path`.
pub(crate) fn locate(program: &Path, path: Option<&OsStr>) -> io::Result<PathBuf> {
    if program.components().count() > 1 {
        return std::path::absolute(program);
    }
    std::env::split_paths(path.unwrap_or_default())
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no folder of PATH has it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_found_in_path_and_a_path_stays_itself() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("helm");
        std::fs::write(&program, "").unwrap();
        let path = std::env::join_paths([Path::new("/nowhere"), folder.path()]).unwrap();
        assert_eq!(locate(Path::new("helm"), Some(&path)).unwrap(), program);
        assert_eq!(locate(&program, None).unwrap(), program);
        let missing = locate(Path::new("helm"), Some(OsStr::new("/nowhere"))).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
