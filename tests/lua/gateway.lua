-- Kong's pre-function as far as the usage reader can see it: the sandbox with nothing in it but what
-- the strictest allow-list has, and the parts of `kong` and `ngx` that it may use. Anything else that
-- is touched is noted as forbidden: the reader's own pcall would hide an error.
--
-- luajit gateway.lua COMMAND <fields      fields are netstrings without the comma: 3:abc
-- and the answer is one JSON document. The commands are at the end.

local gateway = { forbidden = {} }

local function only(name, members)
  return setmetatable(members, {
    __index = function(_, key)
      gateway.forbidden[#gateway.forbidden + 1] = name .. tostring(key)
      return nil
    end,
  })
end

local function copy(names, from)
  local to = {}
  for name in names:gmatch("%S+") do to[name] = from[name] end
  return to
end

-- The sections of usage_reader.lua, each loaded as Kong does; switches are set by replacing their line.
local function sections(source, switches)
  for name, value in pairs(switches) do
    local count
    source, count = source:gsub("local " .. name .. " = [%w]+", "local " .. name .. " = " .. tostring(value))
    assert(count == 1, name)
  end
  local found, name = {}, nil
  for line in source:gmatch("[^\n]*\n") do
    local section = line:match("^%-%-@section (.-)\n$")
    if section then name, found[section] = section, "" elseif name then found[name] = found[name] .. line end
  end
  return found
end

local answer  -- the call that is going through the gateway now

local function sandbox()
  local env = only("", copy("pcall error type tonumber tostring pairs ipairs select", _G))
  env.string = only("string.", copy("find sub byte match gmatch gsub format rep lower upper len", string))
  if gateway.sabotaged then
    env.string.find = function(s, ...)
      if answer.sabotaged then error("cannot search " .. s) end
      return string.find(s, ...)
    end
  end
  env.table = only("table.", copy("concat insert remove sort", table))
  env.kong = only("kong.", {
    ctx = only("kong.ctx.", {
      plugin = setmetatable({}, {
        __index = function(_, name) return answer.ctx[name] end,
        __newindex = function(_, name, value) answer.ctx[name] = value end,
      }),
    }),
    log = only("kong.log.", {
      set_serialize_value = function(name, value) answer.log[name] = value end,
    }),
    request = only("kong.request.", {
      get_body = function(mimetype, _, limit)
        answer.get_body = { mimetype, limit }
        if answer.body == "throws" then error("no body") end
        return answer.body
      end,
    }),
    response = only("kong.response.", { get_source = function() return answer.source end }),
    service = only("kong.service.", {
      request = only("kong.service.request.", {
        set_body = function(body) answer.sent = body end,
        set_header = function(name, value) answer.sent_headers[name] = value end,
      }),
      response = only("kong.service.response.", {
        get_header = function(name) return answer.headers[name] end,
      }),
    }),
  })
  env.ngx = only("ngx.", {
    arg = setmetatable({}, {
      __index = function(_, i) return answer.arg[i] end,
      __newindex = function(_, i, value)
        answer.writes = answer.writes + 1
        answer.arg[i] = value
      end,
    }),
    ctx = setmetatable({}, { __index = function(_, name) return answer.ngx_ctx[name] end }),
    var = setmetatable({}, { __index = function(_, name) return answer.var[name] end }),
  })
  return env
end

-- The phases, loaded once, as a worker of Kong does: what a call leaves behind must not reach the next.
local function load_phases(source, switches)
  local env, parts, phases = sandbox(), sections(source, switches), {}
  for name, code in pairs(parts) do
    if name ~= "switches" then
      if name:find("^pre%-function") then code = parts.switches .. code end
      local chunk = assert(load(code, name, "t", env))
      phases[name] = function()
        local result = chunk()
        if type(result) == "function" then
          phases[name] = result
          result()
        end
      end
    end
  end
  return phases
end

local phases

-- One call through the gateway. `call` may have headers, asked, source, var, body and ngx_ctx.
function gateway.open(source, switches, call)
  answer = {
    ctx = { asked = call.asked }, log = {}, headers = call.headers or {}, source = call.source or "service",
    var = call.var or { request_time = "0.25", http_content_length = "123" }, arg = {},
    body = call.body, sent_headers = {}, ngx_ctx = call.ngx_ctx or {}, writes = 0,
  }
  phases = phases or load_phases(source, switches)
  return answer
end

function gateway.run(phase) phases[phase]() end

-- Gives one chunk to body_filter, and returns what it passes on.
function gateway.feed(chunk, eof)
  answer.arg = { chunk, eof }
  gateway.run("pre-function body_filter")
  return answer.arg[1] or ""
end

-- The bytes of all strings that a state holds (an equal one counts again), and how many values its tables have.
function gateway.held(value, seen)
  seen = seen or {}
  if type(value) == "string" then return #value, 0 end
  if type(value) ~= "table" or seen[value] then return 0, 0 end
  seen[value] = true
  local bytes, entries = 0, 0
  for key, inner in pairs(value) do
    local key_bytes, key_entries = gateway.held(key, seen)
    local inner_bytes, inner_entries = gateway.held(inner, seen)
    bytes = bytes + key_bytes + inner_bytes
    entries = entries + key_entries + inner_entries + 1
  end
  return bytes, entries
end

function gateway.equal(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for key, value in pairs(a) do if not gateway.equal(value, b[key]) then return false end end
  for key in pairs(b) do if a[key] == nil then return false end end
  return true
end

-- JSON, for the answer: bytes as \u00XX, so that Python reads them back as latin-1.
local function quote(s)
  return '"' .. s:gsub('[%c"\\\127-\255]', function(c) return ("\\u%04x"):format(c:byte()) end) .. '"'
end

function gateway.json(value)
  if type(value) == "string" then return quote(value) end
  if type(value) ~= "table" then return tostring(value) end
  local parts = {}
  if #value > 0 then
    for i, inner in ipairs(value) do parts[i] = gateway.json(inner) end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  for key, inner in pairs(value) do parts[#parts + 1] = quote(tostring(key)) .. ":" .. gateway.json(inner) end
  return "{" .. table.concat(parts, ",") .. "}"
end

local function read_fields()
  local text, at, fields = io.read("*a"), 1, {}
  while at <= #text do
    local colon = text:find(":", at, true)
    local length = tonumber(text:sub(at, colon - 1))
    fields[#fields + 1] = text:sub(colon + 1, colon + length)
    at = colon + length + 1
  end
  return fields
end

-- The first fields of every command about an answer: the reader's source, its switches as two letters
-- (y or n: ask, cure), whether it has asked (y or n), content type, content length and encoding ("": none).
local function opened(fields)
  local source, letters, asked, content_type, length, encoding = unpack(fields, 1, 6)
  local function none(s) return s ~= "" and s or nil end
  gateway.open(source, {
    ASK_FOR_USAGE = letters:sub(1, 1) == "y", CURE_SPLIT_FRAMES = letters:sub(2, 2) == "y",
  }, {
    asked = asked == "y" or nil,
    headers = { ["Content-Type"] = content_type, ["Content-Length"] = none(length), ["Content-Encoding"] = none(encoding) },
    ngx_ctx = { ai_namespaced_ctx = { ["parse-sse-chunk"] = { current_events = { "the last one" } } } },
  })
  gateway.run("pre-function header_filter")
end

local commands = {}

-- Then: chunk, eof, chunk, eof, …
function commands.play(fields)
  local passed, most, entries = {}, 0, 0
  opened(fields)
  for i = 7, #fields, 2 do
    passed[#passed + 1] = gateway.feed(fields[i], fields[i + 1] == "y")
    local bytes, count = gateway.held(answer.ctx)
    most, entries = math.max(most, bytes), math.max(entries, count)
  end
  return {
    published = answer.log["ai.tallyman"] or "nothing", passed = passed, writes = answer.writes,
    most_held = most, most_entries = entries,
    last_events = #answer.ngx_ctx.ai_namespaced_ctx["parse-sse-chunk"].current_events,
  }
end

local function replay(fields, body, eof, cut)
  local passed = {}
  opened(fields)
  local from = 1
  repeat
    local to = cut(from) or #body
    passed[#passed + 1] = gateway.feed(body:sub(from, to), false)
    from = to + 1
  until from > #body
  if eof then passed[#passed + 1] = gateway.feed("", true) end
  return answer.log["ai.tallyman"], passed
end

-- JSON's own white space outside of strings says nothing, so a list is compared without it.
local function squeezed(bytes, mode)
  if mode ~= "json" then return bytes end
  return (bytes:gsub("%s", ""))
end

-- Then: body, eof (y or n), mode, step. Cuts the body at every step-th byte into two, and into single
-- bytes; answers the places where what was published or passed on differs from the body in one piece.
function commands.cut(fields)
  local body, eof, mode, step = fields[7], fields[8] == "y", fields[9], tonumber(fields[10])
  local expected, passed = replay(fields, body, eof, function() end)
  local whole = squeezed(table.concat(passed), mode)
  local differ, runs = {}, 0
  local function check(name, cut)
    local published, pieces = replay(fields, body, eof, cut)
    runs = runs + 1
    if not gateway.equal(published, expected) or squeezed(table.concat(pieces), mode) ~= whole then
      differ[#differ + 1] = name
    end
  end
  check("bytes", function(from) return from end)
  for at = 1, #body - 1 do
    if at % step == 0 or at < 512 or at > #body - 512 then
      check(tostring(at), function(from) return from == 1 and at or nil end)
    end
  end
  return { differ = differ, runs = runs, passed = table.concat(passed), published = expected }
end

-- Then: the chunk to be given, how often, what comes after; for bodies too long to send.
function commands.flood(fields)
  local most, entries, passed, started = 0, 0, 0, os.clock()
  opened(fields)
  local times = tonumber(fields[8])
  for i = 1, times do
    passed = passed + #gateway.feed(fields[7], false)
    if i % math.max(1, math.floor(times / 200)) == 0 then
      local bytes, count = gateway.held(answer.ctx)
      most, entries = math.max(most, bytes), math.max(entries, count)
    end
  end
  passed = passed + #gateway.feed(fields[9], false) + #gateway.feed("", true)
  return {
    published = answer.log["ai.tallyman"], passed_bytes = passed, most_held = most, most_entries = entries,
    seconds = os.clock() - started,
  }
end

-- Then: bodies. Each is given in pieces of random lengths (seeded); answers the largest state, how many
-- bytes went in and came out, and how often the reader itself failed.
function commands.fuzz(fields)
  math.randomseed(20261121)
  local most, entries, came, went, failed = 0, 0, 0, 0, 0
  for i = 7, #fields do
    local body, from = fields[i], 1
    opened(fields)
    while from <= #body do
      local to = from + math.random(0, 40)
      went = went + #gateway.feed(body:sub(from, to), false)
      from = to + 1
    end
    local bytes, count = gateway.held(answer.ctx)
    most, entries = math.max(most, bytes), math.max(entries, count)
    went = went + #gateway.feed("", true)
    came = came + #body
    if answer.log["ai.tallyman"].err then failed = failed + 1 end
  end
  return { most_held = most, most_entries = entries, came = came, went = went, failed = failed }
end

-- Then: two chunks. The reader fails on the second, as nothing real makes it do.
function commands.fail(fields)
  gateway.sabotaged = true
  opened(fields)
  local passed = { gateway.feed(fields[7], false) }
  answer.sabotaged = true
  passed[2] = gateway.feed(fields[8], false)
  passed[3] = gateway.feed(fields[8], true)
  return { published = answer.log["ai.tallyman"], passed = passed }
end

-- Fields: source, switches, method, content type, then the body as Lua source ("throws": an error).
function commands.ask(fields)
  local source, letters, method, content_type, body = unpack(fields)
  gateway.open(source, { ASK_FOR_USAGE = letters:sub(1, 1) == "y" }, {
    var = { request_method = method, http_content_type = content_type ~= "" and content_type or nil },
    body = body == "throws" and body or assert(load("return " .. body))(),
  })
  gateway.run("pre-function access")
  gateway.run("post-function access")
  return { sent = answer.sent or "nothing", asked = answer.ctx.asked or false, headers = answer.sent_headers }
end

-- Fields: source, the response's source, content type, content length, encoding.
function commands.header(fields)
  local source, from, content_type, length, encoding = unpack(fields)
  gateway.open(source, {}, {
    source = from,
    headers = {
      ["Content-Type"] = content_type ~= "" and content_type or nil,
      ["Content-Length"] = length ~= "" and length or nil,
      ["Content-Encoding"] = encoding ~= "" and encoding or nil,
    },
  })
  gateway.run("pre-function header_filter")
  return { published = answer.log["ai.tallyman"] or "nothing" }
end

local result = commands[arg[1]](read_fields())
result.forbidden = table.concat(gateway.forbidden, " ")
io.write(gateway.json(result))
