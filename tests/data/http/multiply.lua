-- wrk -t 1 -c 64 -d 2s -s multiply.lua http://127.0.0.1:6550
-- Each call multiplies 6 by 7; answers other than 200 with 42 are counted.
wrk.method = "POST"
wrk.path = "/Arith/Multiply"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"A":6,"B":7}'

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init()
  wrong = 0
end

function response(status, _, body)
  if status ~= 200 or body ~= "42" then
    wrong = wrong + 1
  end
end

function done()
  local wrong = 0
  for _, thread in ipairs(threads) do
    wrong = wrong + thread:get("wrong")
  end
  io.write(string.format("wrong answers: %d\n", wrong))
end
