// The comparison's calls as one Thrift service: a volo-thrift server has one. `generate` makes src/rpc.rs of it.
namespace rs peer

struct User {
    1: required i64 id,
    2: required string name,
    3: required i8 age,
    4: required string email,
    5: required list<string> tags,
    6: required map<string, double> scores,
}

service Peer {
    i64 add(1: i64 a, 2: i64 b),
    binary echo(1: binary body),
    list<User> users(1: i64 n),
}
