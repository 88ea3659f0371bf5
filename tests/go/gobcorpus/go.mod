module coreloop.test/gobcorpus

go 1.22
