module coreloop.example/peers

go 1.23
