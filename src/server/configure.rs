//! The configuration of a server that is being built.

use super::ServerBuilder;
use crate::config::Config;

impl ServerBuilder {
    /// Sets the whole configuration.
    pub fn config(mut self, config: Config) -> ServerBuilder {
        self.config = config;
        self
    }

    /// Changes the configuration.
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> ServerBuilder {
        change(&mut self.config);
        self
    }

    /// Sets the number of reactors; 0 is one for each core that the process may use.
    pub fn cores(self, cores: usize) -> ServerBuilder {
        self.configure(|config| config.cores = cores)
    }

    /// Sets the name and the version of the application, which the console and the OpenAPI document show
    /// (`http.application_name` and `http.application_version`).
    pub fn application(self, name: &str, version: &str) -> ServerBuilder {
        self.configure(|config| {
            config.http.application_name = name.to_owned();
            config.http.application_version = version.to_owned();
        })
    }

    /// Sets whether the console is served at `/` (`http.console`). Default: true.
    pub fn console(self, is_served: bool) -> ServerBuilder {
        self.configure(|config| config.http.console = is_served)
    }

    /// Sets whether the OpenAPI document is served at `/openapi.json` (`http.openapi`), and with it the console,
    /// which reads the document. Default: true.
    pub fn openapi(self, is_served: bool) -> ServerBuilder {
        self.configure(|config| config.http.openapi = is_served)
    }

    /// Expects a header of the PROXY protocol at the start of each connection, from proxies with these addresses alone
    /// (`proxy_protocol.from`): IP addresses, networks, or `unix`. `proxy_protocol.listen` restricts it to some listeners.
    pub fn proxy_protocol_from<S: Into<String>>(self, proxies: impl IntoIterator<Item = S>) -> ServerBuilder {
        let proxies = proxies.into_iter().map(Into::into).collect();
        self.configure(|config| config.proxy_protocol.from = proxies)
    }

    /// Sets the number of workers; 0 is two, or one for each reactor if that is more.
    pub fn workers(self, workers: usize) -> ServerBuilder {
        self.configure(|config| config.workers = workers)
    }
}
