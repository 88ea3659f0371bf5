module coreloop.example/interop

go 1.20
