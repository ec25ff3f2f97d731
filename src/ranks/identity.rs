//! Which rank this process is, as its launcher says in the environment: torchrun (or anybody who sets
//! the same), Open MPI's mpirun, a step of Slurm's srun.

use super::RankError;

/// What started the ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launcher {
    /// `RANK`, `WORLD_SIZE`, `MASTER_ADDR` and `MASTER_PORT`, as torchrun sets them.
    Torchrun,
    /// `mpirun` of Open MPI.
    OpenMpi,
    /// `srun`.
    Slurm,
}

/// One of several ranks, and where they meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its number, from 0.
    pub rank: usize,
    /// How many there are, at least 2.
    pub count: usize,
    /// What started them.
    pub launcher: Launcher,
    /// The machine of rank 0.
    pub address: String,
    /// Ports of which rank 0 takes the first that is free.
    pub ports: Vec<u16>,
    /// What ranks of this job know and others do not.
    pub secret: [u8; 32],
}

/// Ports that a job without one of its own may take: below those that systems give to clients.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000;

/// How many of them a job tries.
const TRIES: u16 = 16;

const HERE: &str = "127.0.0.1";

/// The rank that the environment says this process is; `None` for a process alone.
///
/// # Errors
/// If the environment contradicts itself or does not say where ranks meet.
pub fn identity(env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Identity>, RankError> {
    // The innermost first: torchrun may be started by srun, as the daemons of mpirun are.
    for read in [torchrun, open_mpi, slurm] as [Reader; 3] {
        // One of one is what images and daemons set; a launcher further out may say more.
        if let Some(identity) = read(env)?.filter(|identity| identity.count > 1) {
            return Ok(Some(identity));
        }
    }
    Ok(None)
}

type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

type Reader = fn(Env<'_>) -> Result<Option<Identity>, RankError>;

/// Rank and count; `None` unless both are set: one alone is left over from something else.
fn place(env: Env<'_>, names: [&str; 2]) -> Result<Option<(usize, usize)>, RankError> {
    let [Some(rank), Some(count)] = names.map(|name| env(name).filter(|it| !it.is_empty())) else {
        return Ok(None);
    };
    let [rank_name, count_name] = names;
    let parsed = rank.trim().parse().ok().zip(count.trim().parse().ok());
    match parsed {
        Some((rank, count)) if rank < count => Ok(Some((rank, count))),
        _ => Err(RankError::apart(
            format!("`{rank_name}={rank}` of `{count_name}={count}` is no rank"),
            format!("ranks count from 0; unset `{rank_name}` to run one process"),
        )),
    }
}

fn port(env: Env<'_>) -> Result<Option<u16>, RankError> {
    let Some(text) = env("MASTER_PORT") else {
        return Ok(None);
    };
    match text.trim().parse() {
        Ok(port) if port > 0 => Ok(Some(port)),
        _ => Err(RankError::apart(
            format!("`MASTER_PORT={text}` is no port"),
            "give a number from 1 to 65535",
        )),
    }
}

fn torchrun(env: Env<'_>) -> Result<Option<Identity>, RankError> {
    let Some((rank, count)) = place(env, ["RANK", "WORLD_SIZE"])? else {
        return Ok(None);
    };
    let address = env("MASTER_ADDR");
    let port = port(env)?;
    // torchrun itself listens there; whoever sets the variables by hand leaves the port free.
    let is_taken = env("TORCHELASTIC_USE_AGENT_STORE").as_deref() == Some("True");
    let job = env("TORCHELASTIC_RUN_ID").unwrap_or_default();
    let (address, port) = match (address, port) {
        (Some(address), Some(port)) => (address, port),
        // Nobody to meet.
        _ if count < 2 => (HERE.into(), FIRST_PORT),
        _ => {
            let message =
                format!("`RANK={rank}` and `WORLD_SIZE={count}` are set, but not where ranks meet");
            let help = "set `MASTER_ADDR` to the machine of rank 0 and `MASTER_PORT` to a free port \
                        of it, as torchrun does; unset `RANK` to run one process";
            return Err(RankError::apart(message, help));
        }
    };
    let job = format!("torchrun {job} {address} {port}");
    Ok(Some(Identity {
        rank,
        count,
        launcher: Launcher::Torchrun,
        secret: secret(env, &job),
        address,
        ports: if is_taken { derived(&job) } else { vec![port] },
    }))
}

fn open_mpi(env: Env<'_>) -> Result<Option<Identity>, RankError> {
    let Some((rank, count)) = place(env, ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"])? else {
        return Ok(None);
    };
    let job = env("PMIX_NAMESPACE").or_else(|| env("OMPI_MCA_ess_base_jobid"));
    let job = format!("mpirun {}", job.unwrap_or_default());
    let local = env("OMPI_COMM_WORLD_LOCAL_SIZE").and_then(|text| text.parse().ok());
    let address = match env("MASTER_ADDR") {
        Some(address) => address,
        None if local == Some(count) || cfg!(feature = "mpi") => HERE.into(),
        None => {
            let message = format!("mpirun started {count} ranks on several machines");
            let help = "say where they meet with `mpirun -x MASTER_ADDR=HOST`, the machine of rank \
                        0, or build xp with `--features mpi`";
            return Err(RankError::apart(message, help));
        }
    };
    Ok(Some(Identity {
        rank,
        count,
        launcher: Launcher::OpenMpi,
        ports: port(env)?.map_or_else(|| derived(&job), |port| vec![port]),
        secret: secret(env, &job),
        address,
    }))
}

/// A step of several tasks. A batch script has `SLURM_NTASKS` and `SLURM_PROCID` without being one.
fn slurm(env: Env<'_>) -> Result<Option<Identity>, RankError> {
    let Some(step) = env("SLURM_STEP_ID").filter(|step| step.parse::<u32>().is_ok()) else {
        return Ok(None);
    };
    let Some((rank, count)) = place(env, ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS"])? else {
        return Ok(None);
    };
    let job = env("SLURM_JOB_ID").unwrap_or_default();
    let cluster = env("SLURM_CLUSTER_NAME").unwrap_or_default();
    let job = format!("slurm {cluster} {job}.{step}");
    let nodes = env("SLURM_STEP_NODELIST").or_else(|| env("SLURM_JOB_NODELIST"));
    let address = match env("MASTER_ADDR") {
        Some(address) => address,
        None if env("SLURM_STEP_NUM_NODES").as_deref() == Some("1") => HERE.into(),
        None => nodes
            .as_deref()
            .and_then(first_node)
            .or_else(|| env("SLURM_LAUNCH_NODE_IPADDR"))
            .unwrap_or_else(|| HERE.into()),
    };
    let reserved = env("SLURM_STEP_RESV_PORTS").and_then(|ports| first_port(&ports));
    let port = port(env)?.or(reserved);
    Ok(Some(Identity {
        rank,
        count,
        launcher: Launcher::Slurm,
        ports: port.map_or_else(|| derived(&job), |port| vec![port]),
        secret: secret(env, &job),
        address,
    }))
}

/// The first of a list such as `node[03-05,9],other`.
fn first_node(list: &str) -> Option<String> {
    let end = list.find(['[', ',']).unwrap_or(list.len());
    let (name, rest) = list.split_at(end);
    let number = rest.strip_prefix('[');
    let number = number.map_or("", |it| &it[..it.find(['-', ',', ']']).unwrap_or(it.len())]);
    let found = format!("{name}{number}");
    (!found.is_empty()).then_some(found)
}

fn first_port(list: &str) -> Option<u16> {
    let end = list.find(['-', ',']).unwrap_or(list.len());
    list[..end].parse().ok()
}

/// Ports that follow from the name of a job.
fn derived(job: &str) -> Vec<u16> {
    let hash = blake3::hash(job.as_bytes());
    let [one, two, ..] = *hash.as_bytes();
    let first = u16::from_le_bytes([one, two]) % (PORTS - TRIES);
    (0..TRIES).map(|at| FIRST_PORT + first + at).collect()
}

/// `MASTER_SECRET`, if all ranks of a job are given one, keeps out who knows no more than the job's
/// name.
fn secret(env: Env<'_>, job: &str) -> [u8; 32] {
    let given = env("MASTER_SECRET").unwrap_or_default();
    blake3::derive_key(
        "xp 2026 ranks of a job",
        format!("{job}\n{given}").as_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Result<Option<Identity>, RankError> {
        let env = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        identity(&env)
    }

    #[test]
    fn launchers_say_who_a_rank_is() {
        let torchrun = [
            ("RANK", "1"),
            ("WORLD_SIZE", "3"),
            ("MASTER_ADDR", "head"),
            ("MASTER_PORT", "29500"),
        ];
        let it = found(&torchrun).unwrap().unwrap();
        assert_eq!((it.rank, it.count, it.launcher), (1, 3, Launcher::Torchrun));
        assert_eq!((it.address.as_str(), it.ports), ("head", vec![29_500]));
        let agent = [("TORCHELASTIC_USE_AGENT_STORE", "True")];
        let with_agent: Vec<_> = torchrun.into_iter().chain(agent).collect();
        let ports = found(&with_agent).unwrap().unwrap().ports;
        assert!(!ports.contains(&29_500) && ports.len() == usize::from(TRIES));
        let mpirun = [
            ("OMPI_COMM_WORLD_RANK", "0"),
            ("OMPI_COMM_WORLD_SIZE", "2"),
            ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
            ("PMIX_NAMESPACE", "prterun-host-12@1"),
            // Of the daemons of mpirun.
            ("SLURM_STEP_ID", "0"),
            ("SLURM_PROCID", "3"),
            ("SLURM_STEP_NUM_TASKS", "4"),
        ];
        let it = found(&mpirun).unwrap().unwrap();
        assert_eq!((it.rank, it.count, it.launcher), (0, 2, Launcher::OpenMpi));
        assert_eq!(it.ports.len(), usize::from(TRIES));
        let srun = [
            ("SLURM_STEP_ID", "0"),
            ("SLURM_PROCID", "3"),
            ("SLURM_STEP_NUM_TASKS", "4"),
            ("SLURM_STEP_NUM_NODES", "2"),
            ("SLURM_STEP_NODELIST", "gpu[07-08]"),
            ("SLURM_JOB_ID", "99"),
        ];
        let it = found(&srun).unwrap().unwrap();
        assert_eq!((it.rank, it.count, it.launcher), (3, 4, Launcher::Slurm));
        assert_eq!(it.address, "gpu07");
        let with_ports: Vec<_> = [("SLURM_STEP_RESV_PORTS", "12005-12008")]
            .into_iter()
            .chain(srun)
            .collect();
        assert_eq!(found(&with_ports).unwrap().unwrap().ports, [12_005]);
        let left_over = [("RANK", "0"), ("WORLD_SIZE", "1")];
        let with_image: Vec<_> = left_over.into_iter().chain(srun).collect();
        assert_eq!(found(&with_image).unwrap().unwrap().count, 4);
    }

    #[test]
    fn what_is_left_over_is_no_launcher() {
        assert_eq!(found(&[]), Ok(None));
        assert_eq!(found(&[("RANK", "3")]), Ok(None));
        assert_eq!(found(&[("WORLD_SIZE", "3")]), Ok(None));
        assert_eq!(found(&[("RANK", "0"), ("WORLD_SIZE", "1")]), Ok(None));
        let batch = [
            ("SLURM_NTASKS", "4"),
            ("SLURM_PROCID", "0"),
            ("SLURM_JOB_ID", "7"),
        ];
        assert_eq!(found(&batch), Ok(None));
        let shell = [
            ("SLURM_STEP_ID", "4294967290"),
            ("SLURM_PROCID", "0"),
            ("SLURM_STEP_NUM_TASKS", "1"),
        ];
        assert_eq!(found(&shell), Ok(None));
    }

    #[test]
    fn contradictions_say_what_to_do() {
        let said = |variables: &[(&str, &str)]| found(variables).unwrap_err().to_string();
        assert_eq!(
            said(&[("RANK", "2"), ("WORLD_SIZE", "2")]),
            "`RANK=2` of `WORLD_SIZE=2` is no rank"
        );
        assert_eq!(
            said(&[("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "head")]),
            "`RANK=0` and `WORLD_SIZE=2` are set, but not where ranks meet"
        );
        let bad_port = [("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_PORT", "x")];
        assert_eq!(said(&bad_port), "`MASTER_PORT=x` is no port");
        let far = [("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "2")];
        if !cfg!(feature = "mpi") {
            assert_eq!(said(&far), "mpirun started 2 ranks on several machines");
        }
    }
}
