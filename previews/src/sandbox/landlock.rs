//! Which files a child may open: none, or what programs need to run.

use std::io;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, RestrictionStatus,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use super::{Confinement, Layer};

/// What programs are made of: themselves, their libraries, and the fonts that pages are drawn with. `/proc` and
/// `/dev` by which they name their input aren't here: names are looked up freely, only opening is held against rules.
const READABLE: &[&str] =
    &["/usr", "/bin", "/sbin", "/lib", "/lib64", "/opt", "/etc/ld.so.cache", "/etc/fonts", "/var/cache/fontconfig"];

pub(super) fn restrict(confinement: Confinement) -> Layer {
    match enforce(confinement) {
        Ok(RestrictionStatus { ruleset: RulesetStatus::FullyEnforced, .. }) => Layer::Full,
        Ok(RestrictionStatus { ruleset: RulesetStatus::PartiallyEnforced, .. }) => Layer::Partial(
            "this kernel's Landlock is older than 6.12: files are closed, signals or TCP may not be".into(),
        ),
        Ok(RestrictionStatus { ruleset: RulesetStatus::NotEnforced, .. }) => {
            Layer::Missing("this kernel has no Landlock; use Linux 5.13 or newer with lsm=landlock".into())
        }
        Err(error) => Layer::Missing(format!("Landlock refused its rules: {error}")),
    }
}

fn enforce(confinement: Confinement) -> Result<RestrictionStatus, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V4))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?;
    if confinement == Confinement::Tool {
        for path in READABLE.iter().map(Path::new) {
            let access = if path.is_dir() {
                AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::Execute
            } else {
                AccessFs::ReadFile.into()
            };
            // Not every system has each of them.
            if let Ok(path) = PathFd::new(path) {
                ruleset = ruleset.add_rule(PathBeneath::new(path, access))?;
            }
        }
        for path in ["/dev/null", "/dev/urandom", "/dev/random"] {
            if let Ok(device) = PathFd::new(path) {
                ruleset = ruleset.add_rule(PathBeneath::new(device, AccessFs::ReadFile | AccessFs::WriteFile))?;
            }
        }
        // Programs open their input by name, to seek in it.
        ruleset = allow(ruleset, io::stdin(), AccessFs::ReadFile.into())?;
    }
    ruleset.restrict_self()
}

/// Input that isn't a file has no place in the file system, and needs no rule.
fn allow(
    ruleset: RulesetCreated,
    file: impl std::os::fd::AsFd,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    match rustix::fs::fstat(&file) {
        Ok(stat) if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() => {
            ruleset.add_rule(PathBeneath::new(file, access))
        }
        _ => Ok(ruleset),
    }
}
