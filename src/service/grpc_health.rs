//! `grpc.health.v1.Health`, the service that probes and balancers of gRPC ask: the state that `Health` reports, in the
//! messages of gRPC's
//! [health checking protocol](https://github.com/grpc/grpc/blob/master/doc/health-checking.md).

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::builtin::Health;
use super::method_info::plain_struct;
use super::{Method, RegisterError, Service, finish, refuse_argument};
use crate::codec::protobuf::{AsProtobuf, Converted, Protobuf};
use crate::codec::{Argument, Plain};
use crate::config::MissingFields;
use crate::status::Status;

/// The values of `HealthCheckResponse.ServingStatus`, by number.
const STATES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

plain_struct! {
    /// `HealthCheckRequest`.
    HealthCheckRequest {
        /// The service; empty for the whole server.
        service "service" String,
    }
}

plain_struct! {
    /// `HealthCheckResponse`.
    HealthCheckResponse {
        /// One of [`STATES`].
        status "status" String,
    }
}

/// One text with the number 1, as `google.protobuf.StringValue` has it.
impl AsProtobuf for HealthCheckRequest {
    type Message = String;

    fn to_message(&self) -> String {
        self.service.clone()
    }

    fn from_message(service: String) -> Result<Self, String> {
        Ok(HealthCheckRequest { service })
    }
}

/// One enumeration with the number 1, which is written as `google.protobuf.Int32Value` is.
impl AsProtobuf for HealthCheckResponse {
    type Message = i32;

    fn to_message(&self) -> i32 {
        (0..).zip(STATES).find(|(_, name)| *name == self.status).map_or(0, |(number, _)| number)
    }

    fn from_message(number: i32) -> Result<Self, String> {
        let name = usize::try_from(number).ok().and_then(|number| STATES.get(number));
        let name = name.ok_or_else(|| format!("expected a state from 0 to 3, found {number}"))?;
        Ok(HealthCheckResponse { status: (*name).to_owned() })
    }
}

/// The service.
pub(crate) struct GrpcHealth(pub(crate) Arc<Health>);

impl Service for GrpcHealth {
    fn service_name(&self) -> &str {
        "grpc.health.v1.Health"
    }

    fn missing_fields(&self) -> Option<MissingFields> {
        // As proto3 has it.
        Some(MissingFields::Zero)
    }

    fn methods(self: Arc<Self>) -> Result<Vec<Method>, RegisterError> {
        type Request = Plain<HealthCheckRequest, Protobuf<Converted>>;
        type Response = Plain<HealthCheckResponse, Protobuf<Converted>>;
        let check = Method::new::<Request, Response>(
            "grpc.health.v1.Health.Check",
            Box::new(move |cx, codec, body, out| {
                let HealthCheckRequest { service } = match <Request as Argument>::decode(codec, body) {
                    Ok(request) => request,
                    Err(error) => return refuse_argument(cx, error),
                };
                let result = match self.0.serves(&service) {
                    Some(true) => Ok("SERVING"),
                    Some(false) => Ok("NOT_SERVING"),
                    None => Err(Status::not_found(format!("there is no service {service:?} here"))),
                };
                let result = result.map(|status| HealthCheckResponse { status: status.to_owned() });
                finish::<Response>(cx, codec, result, out)
            }),
        )?;
        let docs = "Whether a service serves, for probes of gRPC. The empty name asks for the whole server.";
        Ok(vec![check.docs(docs).idempotent()])
    }
}
