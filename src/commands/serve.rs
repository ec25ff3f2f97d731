//! `xp serve RUN`: a trained model behind HTTP.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use super::restored::Restored;
use super::{Exit, Failure, Printer, interrupt};
use crate::cli::ServeArgs;
use crate::serve::{Limits, Model, Server};

/// Answers until a signal comes, and then what is under way.
pub fn run(args: &ServeArgs, printer: &Printer) -> Result<(), Failure> {
    let restored = Restored::open(&args.model)?;
    let address = SocketAddr::new(args.host, args.port);
    let server = Server::bind(address).map_err(|error| {
        let message = format!("cannot listen on {address}: {error}");
        Failure::new(Exit::Other, message).help(match error.kind() {
            ErrorKind::AddrInUse => "give another `--port`; 0 takes one that is free",
            ErrorKind::PermissionDenied => {
                "ports below 1024 are the system's; give a larger `--port`"
            }
            _ => "`--host` is an address of this machine, or 0.0.0.0 for all of them",
        })
    })?;
    interrupt::watch()?;
    let url = format!("http://{}", server.address());
    match printer.json {
        true => printer.data(serde_json::json!({ "url": url }).to_string()),
        false => printer.data(&url),
    }
    if !args.host.is_loopback() {
        printer.warning("whoever reaches this address can use the model: there is no password");
    }
    printer.note(format!(
        "{} classes; a page to try it at {url}, a description at {url}/openapi.json; Ctrl-C ends it\n\
         next: curl --data-binary @PICTURE {url}/predict",
        restored.classes.len()
    ));
    let network = restored.network()?;
    let model = Model {
        name: restored.experiment.name,
        classes: restored.classes,
        preprocess: restored.preprocess,
        network,
    };
    let limits = Limits {
        bytes: usize::try_from(args.max_upload).unwrap_or(usize::MAX),
        time: Duration::from_secs(args.timeout),
        requests: args.max_requests,
        ..Limits::DEFAULT
    };
    Ok(server.run(model, limits, interrupt::asked)?)
}
