//! Other programs at both ends: OpenSSL, curl, Python, Node and Go. A test whose program is missing is skipped, unless CI is
//! set.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use coreloop::client::{Caller, Client, MethodId};
use coreloop::codec::Plain;
use coreloop::config::ClientAuth;

use crate::authority::text;
use crate::fixture::Fixture;

/// Runs a program to its end; `None` if it is not installed.
fn run(command: &mut Command, input: &str) -> Option<Output> {
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && std::env::var_os("CI").is_none() => {
            eprintln!("skipped: {} is not installed", command.get_program().display());
            return None;
        }
        Err(error) => panic!("{}: {error}", command.get_program().display()),
    };
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    Some(child.wait_with_output().unwrap())
}

fn stdout_of(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Starts a program that prints its address when it listens.
struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    fn start(command: &mut Command) -> Option<Serving> {
        let mut child = match command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(_) if std::env::var_os("CI").is_none() => {
                eprintln!("skipped: {} is not installed", command.get_program().display());
                return None;
            }
            Err(error) => panic!("{}: {error}", command.get_program().display()),
        };
        let mut address = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut address).unwrap();
        Some(Serving { child, address: address.trim().to_owned() })
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn openssl_negotiates_versions_and_protocols() {
    let fixture = Fixture::new();
    let (address, ca) = (fixture.address(), text(&fixture.authority.ca()));
    let s_client = |more: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &address, "-CAfile", &ca, "-verify_return_error"]).args(more);
        run(&mut command, "")
    };
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let Some(output) = s_client(&[version, "-alpn", "coreloop"]) else { return };
        let shown = stdout_of(&output);
        assert!(shown.contains(name), "{shown}");
        assert!(shown.contains("ALPN protocol: coreloop"), "{shown}");
        assert!(shown.contains("Verify return code: 0 (ok)"), "{shown}");
    }
    let grpc = s_client(&["-alpn", "h2"]).unwrap();
    assert!(stdout_of(&grpc).contains("ALPN protocol: h2"));
    // OpenSSL itself must be willing: version 1.1 needs its lowest security level.
    let old = s_client(&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]).unwrap();
    let shown = String::from_utf8_lossy(&old.stderr).into_owned() + &String::from_utf8_lossy(&old.stdout);
    assert!(!old.status.success() && shown.contains("SSL alert number"), "{shown}");
    let other = s_client(&["-alpn", "h3"]).unwrap();
    let shown = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(!other.status.success() && shown.contains("no application protocol"), "{shown}");
}

/// Returns the values of an attribute of the elements of this name in the output of sslscan.
fn attributes<'a>(xml: &'a str, element: &str, attribute: &str) -> Vec<&'a str> {
    let begin = format!("<{element} ");
    let elements = xml.split(&begin).skip(1).filter_map(|rest| rest.split_once('>'));
    let value =
        |(inside, _): (&'a str, _)| inside.split_once(&format!("{attribute}=\""))?.1.split('"').next();
    elements.filter_map(value).collect()
}

#[test]
fn sslscan_finds_nothing_weak() {
    let fixture = Fixture::new();
    let mut sslscan = Command::new("sslscan");
    let Some(output) = run(sslscan.args(["--xml=-", "--show-sigs", &fixture.address()]), "") else { return };
    let xml = stdout_of(&output);
    let of = |element, attribute| attributes(&xml, element, attribute);
    let protocols: Vec<_> = of("protocol", "version").into_iter().zip(of("protocol", "enabled")).collect();
    let expected = [("2", "0"), ("3", "0"), ("1.0", "0"), ("1.1", "0"), ("1.2", "1"), ("1.3", "1")];
    assert_eq!(protocols, expected, "{xml}");
    assert_eq!(of("renegotiation", "supported"), ["0"], "{xml}");
    assert!(of("compression", "supported").iter().all(|supported| *supported == "0"), "{xml}");
    assert_eq!(of("heartbleed", "vulnerable"), ["0", "0"], "{xml}");
    assert!(
        of("cipher", "sslversion").iter().all(|version| ["TLSv1.2", "TLSv1.3"].contains(version)),
        "{xml}"
    );
    let ciphers = of("cipher", "cipher");
    assert!(ciphers.len() >= 6, "three of each version: {xml}");
    for cipher in &ciphers {
        // Encryption and authentication in one, and keys that a later theft of the certificate's does not open.
        assert!(
            cipher.contains("_GCM_") || cipher.contains("-GCM-") || cipher.contains("CHACHA20"),
            "{cipher}: {xml}"
        );
        assert!(cipher.starts_with("TLS_") || cipher.starts_with("ECDHE-"), "{cipher}: {xml}");
    }
    let strengths = of("cipher", "strength");
    assert!(strengths.iter().all(|strength| ["strong", "acceptable"].contains(strength)), "{xml}");
    assert_eq!(strengths.len(), ciphers.len());
    // The scan has not left anything behind.
    let direct = fixture.direct(&fixture.settings()).unwrap();
    assert!(crate::fixture::greet(&direct).is_ok());
}

#[test]
fn openssl_resumes_a_session_with_a_ticket() {
    let fixture = Fixture::new();
    let (address, ca) = (fixture.address(), text(&fixture.authority.ca()));
    for version in ["-tls1_2", "-tls1_3"] {
        let session = text(&fixture.authority.path("session"));
        let s_client = |option: &str| {
            let mut command = Command::new("openssl");
            command.args(["s_client", "-connect", &address, "-CAfile", &ca, version, option, &session]);
            // A request and its answer: with TLS 1.3 the ticket follows the handshake.
            command.args(["-ign_eof", "-quiet"]);
            run(&mut command, "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        };
        let Some(first) = s_client("-sess_out") else { return };
        stdout_of(&first);
        let before = fixture.server.stats().tls.unwrap().resumed_handshakes;
        stdout_of(&s_client("-sess_in").unwrap());
        assert_eq!(fixture.server.stats().tls.unwrap().resumed_handshakes, before + 1, "{version}");
    }
}

#[test]
fn curl_calls_over_http_1_1_and_gets_a_hint_without_tls() {
    let fixture = Fixture::new();
    let ca = text(&fixture.authority.ca());
    let curl = |more: &[&str], path: &str| {
        let url = format!("https://{}{path}", fixture.address());
        run(Command::new("curl").args(["-sS", "--max-time", "60", "--cacert", &ca]).args(more).arg(url), "")
    };
    let post = ["-H", "Content-Type: application/json", "-d", "\"you\""];
    let Some(called) = curl(&[&post[..], &["--http1.1"]].concat(), "/Greeter/Greet") else { return };
    assert_eq!(stdout_of(&called), r#""hello, you""#);
    // Offered both, the server chooses the one over which it serves everything.
    let offered = curl(&[&post[..], &["-w", " %{http_version}"]].concat(), "/Greeter/Greet").unwrap();
    assert_eq!(stdout_of(&offered), r#""hello, you" 1.1"#);
    let unknown =
        run(Command::new("curl").args(["-sS", &format!("https://{}/", fixture.address())]), "").unwrap();
    assert!(!unknown.status.success(), "curl does not know the authority");
    let plain =
        run(Command::new("curl").args(["-sS", &format!("http://{}/", fixture.address())]), "").unwrap();
    assert!(stdout_of(&plain).starts_with("This port requires TLS"));
}

#[test]
fn curl_presents_a_certificate() {
    let fixture = Fixture::with(|authority, config| {
        config.tls.client_ca = text(&authority.ca());
        config.tls.client_auth = ClientAuth::Required;
    });
    let (ca, client) = (text(&fixture.authority.ca()), fixture.authority.client());
    let url = format!("https://{}/Greeter/Who", fixture.address());
    let post = ["-H", "Content-Type: application/json", "-d", "null", &url];
    let mut with = Command::new("curl");
    with.args(["-sS", "--max-time", "60", "--cacert", &ca, "--cert", &text(&client.certificate)]);
    let Some(output) = run(with.args(["--key", &text(&client.key)]).args(post), "") else { return };
    assert_eq!(stdout_of(&output), r#"["CN=client","orders.shop.example","spiffe://shop/orders"]"#);
    let without = run(Command::new("curl").args(["-sS", "--cacert", &ca]).args(post), "").unwrap();
    assert!(!without.status.success());
}

#[test]
fn python_and_node_call() {
    let fixture = Fixture::new();
    let (host, port) = fixture.address().rsplit_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let ca = text(&fixture.authority.ca());
    let python = "import http.client, ssl, sys\n\
                  context = ssl.create_default_context(cafile=sys.argv[3])\n\
                  c = http.client.HTTPSConnection(sys.argv[1], int(sys.argv[2]), context=context, timeout=60)\n\
                  for _ in range(3):\n  \
                    c.request('POST', '/Greeter/Greet', '\"you\"', {'Content-Type': 'application/json'})\n  \
                    print(c.getresponse().read().decode())\n";
    if let Some(output) = run(Command::new("python3").args(["-c", python, &host, &port, &ca]), "") {
        assert_eq!(stdout_of(&output), "\"hello, you\"\n".repeat(3));
    }
    let node = "const [host, port, ca] = process.argv.slice(1);\
                const options = {host, port, ca: require('fs').readFileSync(ca), method: 'POST', \
                  path: '/Greeter/Greet', headers: {'Content-Type': 'application/json'}};\
                const r = require('https').request(options, a => { a.on('data', d => process.stdout.write(d)); });\
                r.end('\"you\"');";
    if let Some(output) = run(Command::new("node").args(["-e", node, &host, &port, &ca]), "") {
        assert_eq!(stdout_of(&output), r#""hello, you""#);
    }
}

/// Writes a program of Go and returns the command that runs it.
fn go(fixture: &Fixture, source: &str) -> (PathBuf, Command) {
    let path = fixture.authority.path("main.go");
    std::fs::write(&path, source).unwrap();
    let mut command = Command::new("go");
    command.arg("run").arg(&path);
    (path, command)
}

#[test]
fn go_calls_over_its_own_tls() {
    let fixture = Fixture::new();
    let source = r#"package main
import ("crypto/tls"; "crypto/x509"; "fmt"; "net/rpc"; "net/rpc/jsonrpc"; "os")
func main() {
	pem, _ := os.ReadFile(os.Args[2])
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	for _, json := range []bool{true, false} {
		conn, err := tls.Dial("tcp", os.Args[1], &tls.Config{RootCAs: roots})
		if err != nil { panic(err) }
		// One alone: each reads from the connection.
		connect := rpc.NewClient
		if json { connect = jsonrpc.NewClient }
		client := connect(conn)
		for i := 0; i < 3; i++ {
			var reply string
			if err := client.Call("Greeter.Greet", "you", &reply); err != nil { panic(err) }
			fmt.Println(reply)
		}
		client.Close()
	}
}
"#;
    let (_, mut command) = go(&fixture, source);
    let command = command.arg(fixture.address()).arg(fixture.authority.ca());
    let Some(output) = run(command, "") else { return };
    assert_eq!(stdout_of(&output), "hello, you\n".repeat(6));
}

#[test]
fn a_server_of_go_is_called_and_asks_for_a_certificate() {
    let fixture = Fixture::new();
    let source = r#"package main
import ("crypto/tls"; "crypto/x509"; "fmt"; "net/rpc"; "net/rpc/jsonrpc"; "os")
type Greeter struct{}
func (Greeter) Greet(name string, reply *string) error { *reply = "hello, " + name; return nil }
func main() {
	rpc.Register(Greeter{})
	pem, _ := os.ReadFile(os.Args[1])
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	pair, err := tls.LoadX509KeyPair(os.Args[2], os.Args[3])
	if err != nil { panic(err) }
	config := &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil { panic(err) }
	fmt.Println(listener.Addr())
	for {
		conn, err := listener.Accept()
		if err != nil { return }
		go jsonrpc.ServeConn(conn)
	}
}
"#;
    let (path, _) = go(&fixture, source);
    let binary = fixture.authority.path("go-server");
    let built = run(Command::new("go").arg("build").arg("-o").arg(&binary).arg(&path), "");
    let Some(built) = built else { return };
    stdout_of(&built);
    let mut command = Command::new(&binary);
    command.arg(fixture.authority.ca()).arg(&fixture.pair.certificate).arg(&fixture.pair.key);
    let Some(serving) = Serving::start(&mut command) else { return };
    static GREET: MethodId = MethodId::new("Greeter.Greet");
    let address = format!("jsonrpc+tls:{}", serving.address);
    let build = |settings: coreloop::client::ClientTls| {
        Client::builder(&address).tls(|tls| *tls = settings).build().unwrap()
    };
    let client = build(fixture.settings_of(&fixture.authority.client()));
    for _ in 0..3 {
        assert_eq!(
            client.call::<Plain<String>, Plain<String>>(&GREET, &"you".to_owned()).unwrap(),
            "hello, you"
        );
    }
    let error = build(fixture.settings())
        .call::<Plain<String>, Plain<String>>(&GREET, &"you".to_owned())
        .unwrap_err();
    assert!(
        error.to_string().contains("certificate_required") || error.to_string().contains("bad_certificate"),
        "{error}"
    );
}
