//! The HTTP client: limits on waiting, and failures in plain words.

use std::time::Duration;

use ureq::Agent;

const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(30);
/// Longest pause within a download.
const STALL: Duration = Duration::from_secs(60);

/// A client that gives up on a host that does not answer, and that no redirection leads from
/// `https://` to an address that anyone on the way can change.
pub(super) fn agent(url: &str) -> Agent {
    let secure = url.starts_with("https://");
    config().https_only(secure).build().into()
}

/// A client for small messages that nobody is to wait for; it hands out answers of any status.
pub(crate) fn hasty(url: &str) -> Agent {
    let config = config()
        .https_only(url.starts_with("https://"))
        .http_status_as_error(false)
        .timeout_connect(Some(Duration::from_secs(3)))
        .timeout_recv_response(Some(Duration::from_secs(10)))
        .timeout_global(Some(Duration::from_secs(60)));
    config.build().into()
}

fn config() -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
    Agent::config_builder()
        .user_agent(concat!("xp/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(ANSWER))
        .timeout_per_read(Some(STALL))
}

/// Whether a host answers at all, whatever it says; the hub's own client would wait for minutes.
pub(super) fn check_reachable(url: &str) -> Result<(), String> {
    let agent: Agent = config()
        .http_status_as_error(false)
        .max_redirects(0)
        .build()
        .into();
    let answer = agent.get(url).header("Range", "bytes=0-0").call();
    answer.map(drop).map_err(|error| reason(&error))
}

/// Whether it may go better the next time.
pub(super) fn is_passing(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::StatusCode(status) => matches!(status, 408 | 429 | 500..=599),
        ureq::Error::Io(_) | ureq::Error::Timeout(_) => true,
        _ => false,
    }
}

/// What a failure means to the user.
pub(crate) fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::HostNotFound => "there is no such host, or no network".into(),
        ureq::Error::ConnectionFailed => "the host cannot be reached; is there a network?".into(),
        ureq::Error::Io(error) => format!("the connection failed ({error}); is there a network?"),
        ureq::Error::Timeout(_) => "the host does not answer; is there a network?".into(),
        ureq::Error::StatusCode(404) => "there is no such file (404)".into(),
        ureq::Error::StatusCode(status @ (401 | 403)) => {
            format!("the host does not give it out ({status}): a wrong name, or a login is needed")
        }
        ureq::Error::StatusCode(status) => format!("the host answers with status {status}"),
        other => other.to_string(),
    }
}
