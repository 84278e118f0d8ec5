//! Which calls a child may make: what is on these lists answers "not permitted".
//!
//! Lists of what is forbidden, not of what is allowed: they hold for every C library and every version of a tool, and
//! what computing needs is left alone. Without a socket there is no network, without a process nothing stays behind.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::{Confinement, Layer};

/// No child needs these: network, other processes, the system itself.
const NEVER: &[i64] = &[
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    // Out of the group that the parent kills.
    libc::SYS_setsid,
    libc::SYS_setpgid,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_open_by_handle_at,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_shmget,
    libc::SYS_msgget,
    libc::SYS_semget,
];

/// A decoder has all it needs when it begins.
const NOT_DECODERS: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_clone,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_memfd_create,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_truncate,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
];

/// Older spellings, which newer processors' Linux doesn't have.
#[cfg(target_arch = "x86_64")]
const OLD_NOT_DECODERS: &[i64] = &[
    libc::SYS_open,
    libc::SYS_creat,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_mknod,
    libc::SYS_chmod,
    libc::SYS_chown,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_NOT_DECODERS: &[i64] = &[];

#[cfg(target_arch = "x86_64")]
const FORKS: &[i64] = &[libc::SYS_fork, libc::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
const FORKS: &[i64] = &[];

pub(super) fn restrict(confinement: Confinement) -> Layer {
    match enforce(confinement) {
        Ok(()) => Layer::Full,
        Err(error) => Layer::Missing(format!("no seccomp filter: {error}; use a kernel with CONFIG_SECCOMP_FILTER")),
    }
}

fn enforce(confinement: Confinement) -> Result<(), Box<dyn std::error::Error>> {
    // What a thread is begun with can't be read out of clone3: C libraries fall back to clone where there is none.
    apply(unconditional(&[libc::SYS_clone3]), libc::ENOSYS)?;

    let mut rules = unconditional(NEVER);
    rules.append(&mut unconditional(FORKS));
    let own = u64::from(std::process::id());
    let others = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, own)?;
    // Aborting is a signal to oneself.
    insert(&mut rules, libc::SYS_tgkill, vec![SeccompRule::new(vec![others])?]);
    match confinement {
        Confinement::Decoder => {
            rules.append(&mut unconditional(NOT_DECODERS));
            rules.append(&mut unconditional(OLD_NOT_DECODERS));
        }
        Confinement::Tool => {
            let thread = libc::CLONE_THREAD as u64;
            let process = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(thread), 0)?;
            insert(&mut rules, libc::SYS_clone, vec![SeccompRule::new(vec![process])?]);
        }
    }
    apply(rules, libc::EPERM)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn unconditional(calls: &[i64]) -> Rules {
    let mut rules = Rules::new();
    for call in calls {
        insert(&mut rules, *call, Vec::new());
    }
    rules
}

fn insert(rules: &mut Rules, call: i64, rule: Vec<SeccompRule>) {
    // On x86-64 some kernels take every call by a second number as well.
    #[cfg(target_arch = "x86_64")]
    rules.insert(call | 0x4000_0000, rule.clone());
    rules.insert(call, rule);
}

fn apply(rules: Rules, errno: i32) -> Result<(), Box<dyn std::error::Error>> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let refuse = SeccompAction::Errno(u32::try_from(errno)?);
    let program: BpfProgram = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}
