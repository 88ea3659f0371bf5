//! `coreloop health`: whether a server, or one of its services, is serving: for the health checks of containers.

use coreloop::Code;

use crate::args::HealthArgs;
use crate::failure::Failure;
use crate::line::{Line, codec_of, encoded};

/// The answer of `Health.Check` for a service that serves.
const SERVING: &str = "serving";

/// Runs the command.
pub fn run(args: &HealthArgs) -> Result<(), Failure> {
    let codec = codec_of(args.target.scheme, None)?;
    let line = Line::connect(&args.target, codec, Some(args.timeout), &args.tls);
    let line = line.map_err(|error| Failure::call(&error))?;
    let service = args.service.as_deref().unwrap_or_default();
    let asked = encoded(codec, serde_json::json!(service).to_string())?;
    let (reply, _) = line.call("Health.Check", &asked).map_err(|failure| {
        failure.explain(Code::Unimplemented, "the server has no method Health.Check, which `health` calls")
    })?;
    let state: String = serde_json::from_str(&reply)
        .map_err(|error| Failure::error(format!("the reply of Health.Check cannot be read: {error}")))?;
    if state != SERVING {
        let what = if service.is_empty() { "the server" } else { service };
        return Err(Failure::error(format!("{what} is {}, not {SERVING}", state.escape_debug())));
    }
    crate::print(&format!("{SERVING}\n"))
}
