# The comparison's calls as one capability, which every connection is given. `generate` makes src/peer_capnp.rs of it.
@0xb3f1c7d5a9e80246;

interface Peer {
  add @0 (a :Int64, b :Int64) -> (sum :Int64);
  echo @1 (body :Data) -> (body :Data);
  users @2 (n :Int64) -> (users :List(User));
}

struct User {
  id @0 :UInt64;
  name @1 :Text;
  age @2 :UInt8;
  email @3 :Text;
  tags @4 :List(Text);
  scores @5 :List(Score);

  struct Score {
    name @0 :Text;
    value @1 :Float64;
  }
}
