-- Every request bears the next credential of the file that is named, if one is; what was done is told
-- as JSON in the last line.
local requests, at = {}, 0

function init(arguments)
  if not arguments[1] then return end
  for credential in io.lines(arguments[1]) do
    wrk.headers["Authorization"] = credential
    requests[#requests + 1] = wrk.format()
  end
  request = function()
    at = at % #requests + 1
    return requests[at]
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"bytes":%d,"microseconds":%d,"failed":%d,"p50":%d,"p99":%d}\n',
    summary.requests, summary.bytes, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
