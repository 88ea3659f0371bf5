module coreloop.example/values

go 1.20
