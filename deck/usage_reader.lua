-- The usage reader: reads the provider's own token numbers out of the answer, as it passes Kong.
--
-- Kong's bundled `pre-function` sees the provider's raw bytes before ai-proxy rewrites them, so this
-- needs no installation: `make deck` writes the sections below into the decK files. Kong loads each
-- section as a chunk of its own ("switches" goes in front of each of pre-function's), so what they
-- share is in kong.ctx.plugin. What it finds is published in the log entry as `ai.tallyman`.
--
-- Kong's sandbox has no require, bit or setmetatable; use only what it and the stricter allow-list of
-- newer Kongs have. decK replaces a dollar sign with two braces anywhere in a file: have none here.

--@section switches
-- Ask OpenAI-format providers for the usage chunk of a stream (stream_options.include_usage) where the
-- client did not, and take that chunk out of what the client gets. Without it such a stream has no
-- numbers. The reader cannot know the provider: switch it off where another format is spoken.
local ASK_FOR_USAGE = true
-- Pass on whole messages only, and keep ai-proxy from handling its last events again at an empty chunk.
-- Without it ai-proxy 3.9 kills or garbles some streams whose messages TCP has cut.
local CURE_SPLIT_FRAMES = true
-- The most bytes of an unfinished message that are ever held, for one answer.
local BOUND = 1048576

--@section pre-function access
-- Asks for the usage chunk. An error here would be a 500 for the client, so none may leave.
local function ask()
  local content_type = ngx.var.http_content_type
  if ngx.var.request_method ~= "POST" then return end
  if content_type and not string.find(content_type, "json", 1, true) then return end
  local body = kong.request.get_body("application/json", nil, 16777216)
  if type(body) ~= "table" or body.stream ~= true or not (body.messages or body.prompt) then return end

  local options = body.stream_options
  if type(options) ~= "table" then options = {} end
  if options.include_usage == true then return end  -- the client's own wish: nothing to strip either
  options.include_usage = true
  body.stream_options = options
  kong.service.request.set_body(body, "application/json")
  kong.ctx.plugin.asked = true
end

return function()
  if ASK_FOR_USAGE then pcall(ask) end
end

--@section pre-function header_filter
-- Decides by the provider's content type whether and how the body is read. Here the provider's own
-- headers are still to be seen: ai-proxy's header_filter runs later.
local find = string.find

local function mode_of(content_type)
  if find(content_type, "amazon.eventstream", 1, true) then return "aws" end
  if find(content_type, "event-stream", 1, true) or find(content_type, "ndjson", 1, true)
    or find(content_type, "stream+json", 1, true) then return "lines" end
  if find(content_type, "json", 1, true) then return "json" end
end

local function begin()
  if kong.response.get_source() ~= "service" then return end
  local header = kong.service.response.get_header
  local mode = mode_of(header("Content-Type") or "")
  if not mode then return end

  local published = {
    v = 1, mode = mode, events = 0, deltas = 0, bytes = 0, text_bytes = 0, done = false, eof = false,
    req_bytes = tonumber(ngx.var.http_content_length),
  }
  local state = { published = published, pieces = {}, n = 0, size = 0 }
  local encoding = header("Content-Encoding")
  if encoding and encoding ~= "" and encoding ~= "identity" then
    published.encoding = encoding  -- compressed: it cannot be read, and says so
  else
    state.read = mode
    state.strip = kong.ctx.plugin.asked and mode == "lines"
    -- A JSON document of known length is one whole answer: ai-proxy collects that itself.
    state.cure = CURE_SPLIT_FRAMES and (mode ~= "json" or not header("Content-Length"))
  end
  kong.ctx.plugin.reader = state
  -- Once, and body_filter fills the table in place: a call per chunk would grow a list of Kong's, and
  -- after an abort there would be nobody to make the last one.
  kong.log.set_serialize_value("ai.tallyman", published)
end

return function() pcall(begin) end

--@section pre-function body_filter
-- Reads, and passes on. It runs for every chunk, and the part marked "hot" for every event: that part
-- keeps to plain find, byte and sub, which LuaJIT compiles.
local find, sub, byte, match = string.find, string.sub, string.byte, string.match
local concat = table.concat
local tonumber, type, pairs, pcall, error = tonumber, type, pairs, pcall, error
local ngx, kong = ngx, kong

local QUOTE, BACKSLASH, OPEN_BRACE, CLOSE_BRACE, OPEN_BRACKET = 34, 92, 123, 125, 91

-- == JSON, as little of it as is needed: there is no cjson in the sandbox.

local MAX_DEPTH, MAX_MEMBERS, MAX_NAME = 4, 128, 64  -- what is published is bounded, whatever is sent

-- What to do with a wanted member: go into an object (a table of wanted members, or ALL of them, for
-- numbers), or take a short string (TEXT), or see whether a list is empty (EMPTY).
local ALL, TEXT, EMPTY = true, "text", "empty"

-- The index after the JSON value that starts at i. Strings are skipped as strings: "usage" may well
-- stand in an answer, or in a tool's arguments.
local function skip(s, i)
  local c = byte(s, i)
  if c == QUOTE then
    local at = i + 1
    while true do
      local k = find(s, '["\\]', at) or error("unfinished string")
      if byte(s, k) == QUOTE then return k + 1 end
      at = k + 2
    end
  elseif c == OPEN_BRACE or c == OPEN_BRACKET then
    local depth, at = 1, i + 1
    while depth > 0 do
      local k = find(s, '["{}%[%]]', at) or error("unfinished object")
      local b = byte(s, k)
      if b == QUOTE then
        at = skip(s, k)
      else
        depth = depth + ((b == OPEN_BRACE or b == OPEN_BRACKET) and 1 or -1)
        at = k + 1
      end
    end
    return at
  end
  return find(s, "[,}%]%s]", i) or #s + 1
end

-- A count, or -1, which no count is, for what no number can hold: an infinity in the log entry would
-- cost the whole entry.
local function number(raw)
  local n = tonumber(raw)
  if n and (n ~= n or n >= 1e300 or n <= -1e300) then return -1 end
  return n
end

local function scalar(raw, want)
  if want == TEXT then return #raw < 258 and match(raw, '^"([%w%-%._:/@ ]+)"$') or nil end
  if want == EMPTY then return find(raw, "^%[%s*%]$") and true or nil end
  if raw == "true" then return true end
  return number(raw)
end

-- Is this a name that a count would have? `left` is how many more members may be taken.
local function is_name(name, left)
  return left[1] > 0 and #name <= MAX_NAME and not find(name, "[^%w_%-%.]")
end

-- The wanted members of the object at i, and the index after it.
local function pick(s, i, want, depth, left)
  local object = {}
  if depth > MAX_DEPTH then return object, skip(s, i) end
  i = match(s, "^%s*()", i + 1)
  while byte(s, i) == QUOTE do
    local name_end = skip(s, i)
    local name = sub(s, i + 1, name_end - 2)
    local at = match(s, "^%s*:%s*()", name_end) or error("no colon")
    local wanted = want == ALL or want[name]
    if wanted == ALL and not is_name(name, left) then wanted = nil end
    if (wanted == ALL or type(wanted) == "table") and byte(s, at) == OPEN_BRACE then
      object[name], i = pick(s, at, wanted, depth + 1, left)
    else
      i = skip(s, at)
      if wanted then object[name] = scalar(sub(s, at, i - 1), wanted) end
    end
    if wanted then left[1] = left[1] - 1 end
    i = match(s, "^%s*,?%s*()", i)
  end
  return object, i + 1
end

-- == The providers' formats. `marks`: what stands in a document that may say something; `wants`: the
-- members to read of it; `read`: keeps what was reported, as the provider named it, and answers true
-- if this document ends the stream.

local NONE = {}
local function inside(object) return type(object) == "table" and object or NONE end

local formats = {}

-- OpenAI, Azure, Mistral, Groq: `usage` in the last chunk, null in all others. It ends with [DONE],
-- which is no document.
formats.openai = {
  marks = {},
  wants = { usage = ALL, model = TEXT, choices = EMPTY, x_groq = { usage = ALL } },
  read = function(doc, keep)
    keep("usage", doc.usage)
    keep("x_groq.usage", inside(doc.x_groq).usage)
  end,
}

-- OpenAI's Responses API: in the event that ends it, under `response`.
local RESPONSES_END = { ["response.completed"] = true, ["response.incomplete"] = true, ["response.failed"] = true }
formats.responses = {
  marks = { '"response.' },
  wants = { type = TEXT, response = { usage = ALL, model = TEXT } },
  read = function(doc, keep)
    keep("response.usage", inside(doc.response).usage)
    return RESPONSES_END[doc.type]
  end,
}

-- Anthropic: message_start has the input and cache tokens (and a placeholder for the output),
-- message_delta the output tokens so far, of which the last counts.
formats.anthropic = {
  marks = { 'stop"' },
  wants = { type = TEXT, usage = ALL, model = TEXT, message = { usage = ALL, model = TEXT } },
  read = function(doc, keep)
    keep("message.usage", inside(doc.message).usage)
    keep("usage", doc.usage)
    return doc.type == "message_stop"
  end,
}

-- Gemini: `usageMetadata` in every document, cumulative. The last one has a finishReason.
formats.gemini = {
  marks = {},
  wants = { usageMetadata = ALL, modelVersion = TEXT, response = { usageMetadata = ALL } },
  read = function(doc, keep, s)
    keep("response.usageMetadata", inside(doc.response).usageMetadata)
    return keep("usageMetadata", doc.usageMetadata) and find(s, '"finishReason"', 1, true)
  end,
}

-- Bedrock: the metadata event, the last one of its binary stream.
formats.bedrock = {
  marks = {},
  wants = { usage = ALL },
  read = function(doc, keep, _, mode)
    return keep("usage", doc.usage) and mode == "aws"
  end,
}

-- Cohere: v1 under `meta` (of the answer, or of stream-end's `response`), v2 under message-end's `delta`.
local COHERE_END = { ["stream-end"] = true, ["message-end"] = true }
formats.cohere = {
  marks = { '"meta"' },
  wants = {
    type = TEXT, event_type = TEXT, is_finished = ALL, meta = ALL,
    response = { meta = ALL }, delta = { usage = ALL },
  },
  read = function(doc, keep)
    keep("meta", doc.meta)
    keep("response.meta", inside(doc.response).meta)
    keep("delta.usage", inside(doc.delta).usage)
    return COHERE_END[doc.type] or COHERE_END[doc.event_type] or doc.is_finished == true
  end,
}

-- Ollama: two numbers of the last document itself.
formats.ollama = {
  marks = { 'eval_count"' },
  wants = { done = ALL, model = TEXT, prompt_eval_count = ALL, eval_count = ALL },
  read = function(doc, keep)
    local asked, answered = doc.prompt_eval_count, doc.eval_count
    keep("ollama", {
      prompt_eval_count = type(asked) == "number" and asked or nil,
      eval_count = type(answered) == "number" and answered or nil,
    })
    return doc.done == true
  end,
}

local WANTS, MARKS = {}, {}
for _, format in pairs(formats) do
  for name, want in pairs(format.wants) do
    if type(want) == "table" then
      local all = type(WANTS[name]) == "table" and WANTS[name] or {}
      for inner, inner_want in pairs(want) do all[inner] = inner_want end
      want = all
    end
    WANTS[name] = want
  end
  for _, mark in pairs(format.marks) do MARKS[#MARKS + 1] = mark end
end

-- == One document (hot)

-- Where an answer's words stand, for the estimate if the stream is aborted.
local WORDS = { '"content"', '"text"', '"delta"', '"arguments"', '"partial_json"', '"thinking"', '"reasoning_content"' }

-- The index of a member's value whose key ends before i, and its first byte.
local function value_at(s, i)
  local b = byte(s, i)
  while b == 32 or b == 58 or b == 9 do
    i = i + 1
    b = byte(s, i)
  end
  return i, b
end

-- The index of the quote that ends the string begun before i.
local function string_end(s, i)
  local k = find(s, '"', i, true)
  while k do
    local before = k - 1
    while byte(s, before) == BACKSLASH do before = before - 1 end
    if (k - before) % 2 == 1 then return k end
    k = find(s, '"', k + 1, true)
  end
end

-- How many bytes the first string has that is not empty and stands under this key.
local function words_under(s, key)
  local i = find(s, key, 1, true)
  while i do
    local at, b = value_at(s, i + #key)
    if b == QUOTE and at > i + #key then
      local last = string_end(s, at + 1)
      if last and last > at + 1 then return last - at - 1 end
    end
    i = find(s, key, i + #key, true)
  end
end

-- Is there an object under a key that starts with "usage? Not `"usage": null`, as in every other chunk.
local function has_usage(s)
  local i = find(s, '"usage', 1, true)
  while i do
    local key_end = find(s, '"', i + 1, true)
    if not key_end then return false end
    local _, b = value_at(s, key_end + 1)
    if b == OPEN_BRACE then return true end
    i = find(s, '"usage', i + 6, true)
  end
  return false
end

local function is_marked(s)
  if has_usage(s) then return true end
  for x = 1, #MARKS do
    if find(s, MARKS[x], 1, true) then return true end
  end
  return false
end

local function count_words(published, s)
  local bytes = published.key and words_under(s, WORDS[published.key])
  if not bytes then
    for x = 1, #WORDS do
      bytes = words_under(s, WORDS[x])
      if bytes then
        published.key = x  -- tried first in the next document
        break
      end
    end
  end
  if not bytes then return end
  published.deltas = published.deltas + 1
  published.text_bytes = published.text_bytes + bytes
  if not published.ttft then published.ttft = tonumber(ngx.var.request_time) end
end

-- == One document that says something

local function read_document(published, s, i)
  local doc = pick(s, i, WANTS, 0, { MAX_MEMBERS })
  local function keep(name, reported)
    if type(reported) ~= "table" then return false end
    for _ in pairs(reported) do  -- an empty object reports nothing
      published.usage = published.usage or {}
      published.usage[name] = reported
      break
    end
    return true
  end
  for _, format in pairs(formats) do
    if format.read(doc, keep, s, published.mode) then published.done = true end
  end
  local model = inside(doc.response).model or inside(doc.message).model or doc.model or doc.modelVersion
  if type(model) == "string" then published.model = model end
  return type(doc.usage) == "table" and doc.choices == true  -- is it OpenAI's usage chunk?
end

local function document(published, s, i)
  published.events = published.events + 1
  if not published.whole then count_words(published, s) end
  if published.events > 1 and not is_marked(s) then return false end
  return read_document(published, s, i)
end

-- Reads a document; one that is no JSON is counted, never raised. Answers true for a usage chunk.
local function read(published, s, i)
  local ok, usage_only = pcall(document, published, s, i)
  if not ok then published.bad = (published.bad or 0) + 1 end
  return ok and usage_only
end

-- == The bytes of a message that is not finished yet

-- Each piece is longer than the next, so that there are few, and adding byte by byte stays cheap.
local function push(state, s)
  local pieces, n = state.pieces, state.n + 1
  pieces[n] = s
  while n > 1 and #pieces[n - 1] <= #pieces[n] do
    pieces[n - 1] = pieces[n - 1] .. pieces[n]
    pieces[n] = nil
    n = n - 1
  end
  state.n, state.size = n, state.size + #s
end

local function take(state, s)
  if state.n > 0 then
    s = concat(state.pieces) .. s
    state.pieces, state.n, state.size = {}, 0, 0
  end
  return s
end

-- Holds s, or, beyond the bound, answers all that is to be passed on unread.
local function hold(state, s)
  if not state.over then
    if state.size + #s <= BOUND then
      push(state, s)
      return nil
    end
    state.over, state.published.over = true, true
    s = take(state, s)
  end
  return s
end

-- == How documents are framed. Each function reads a chunk and answers what to pass on, or nothing if
-- that is the chunk itself.

local framings = {}

local MAX_EVENT_LINES = 1000

local function read_line(published, line)
  local at = 1
  if byte(line, 1) ~= OPEN_BRACE then
    if sub(line, 1, 5) ~= "data:" then return false end
    at = value_at(line, 6)
  end
  if byte(line, at) == OPEN_BRACE then return read(published, line, at) end
  if sub(line, at, at + 5) == "[DONE]" then published.done = true end
  return false
end

local function pass_event(state, out)
  if not state.event then return end
  out[#out + 1] = concat(state.event)
  state.event, state.event_size = nil, 0
end

local function add_to_event(state, out, line, ends)
  if sub(line, -2) == "\r\n" then line = sub(line, 1, -3) .. "\n" end  -- ai-proxy does not take CRLF
  local event = state.event or {}
  event[#event + 1] = line
  state.event, state.event_size = event, (state.event_size or 0) + #line
  if ends or #event >= MAX_EVENT_LINES or state.event_size > BOUND then pass_event(state, out) end
end

local function pass_line(state, out, line, usage_only)
  local blank = line == "\n" or line == "\r\n"
  if usage_only and state.strip and not state.in_event then
    state.stripped = true
    return
  end
  if state.stripped then
    state.stripped = nil
    if blank then return end  -- the one that ended the chunk taken out
  end
  local first = byte(line, 1)
  local ends = blank or first == OPEN_BRACE  -- NDJSON: a line is a message
  if ends then state.in_event = nil elseif first ~= 58 then state.in_event = true end  -- 58: a comment
  if state.cure then add_to_event(state, out, line, ends) else out[#out + 1] = line end
end

-- Server-sent events and NDJSON.
function framings.lines(state, chunk, eof)
  local out = (state.strip or state.cure) and {}
  local from = 1
  while true do
    local to = find(chunk, "\n", from, true)
    if not to then break end
    local line = take(state, sub(chunk, from, to))
    if state.over then  -- the end of a line that was too long to read
      state.over = nil
      if out then out[#out + 1] = line end
    else
      local usage_only = read_line(state.published, line)
      if out then pass_line(state, out, line, usage_only) end
    end
    from = to + 1
  end
  if from <= #chunk then
    local rest = sub(chunk, from)
    if out and state.event and state.size + state.event_size + #rest > BOUND then pass_event(state, out) end
    local unread = hold(state, rest)
    if out and unread then
      pass_event(state, out)
      out[#out + 1] = unread
    end
  end
  if eof and state.size > 0 then
    local line = take(state, "")
    local usage_only = read_line(state.published, line)
    if out then pass_line(state, out, line, usage_only) end
  end
  if not out then return nil end
  if eof then pass_event(state, out) end
  return concat(out)
end

-- The next brace or bracket that is not in a string, from `at` on: its index and byte.
local function next_bracket(state, chunk, at)
  while true do
    if state.escaped then  -- a backslash was the last byte of the chunk before
      state.escaped = nil
      at = at + 1
    end
    local k = find(chunk, state.in_string and '["\\]' or '["{}%[%]]', at)
    if not k then return nil end
    local b = byte(chunk, k)
    if b == QUOTE then
      state.in_string = not state.in_string
      at = k + 1
    elseif b == BACKSLASH then
      if k == #chunk then
        state.escaped = true
        return nil
      end
      at = k + 2
    else
      return k, b
    end
  end
end

-- Follows the nesting. Answers "object" where one begins that is a document, "end" where one ends,
-- "close" where nothing is open any more.
local function nest(state, b)
  local depth, base = state.depth or 0, state.base or 0
  local what
  if b == OPEN_BRACE or b == OPEN_BRACKET then
    if depth == 0 and b == OPEN_BRACKET then
      state.base = 1
    elseif depth == base then
      what = "object"
    end
    state.depth = depth + 1
    return what
  end
  depth = depth - 1
  if depth == base and b == CLOSE_BRACE then
    what = "end"
  elseif depth <= 0 then
    what = "close"
    if depth == 0 then state.published.done = true end
  end
  state.depth = depth > 0 and depth or 0
  return what
end

local function finish_object(state, text)
  if state.over then
    state.over = nil  -- too long: its beginning has been passed on unread
  else
    local at = find(text, "{", 1, true)  -- a comma, spaces or the list's bracket may stand before it
    if at then read(state.published, text, at) end
  end
  if state.published.whole then state.published.done = true end
end

-- One JSON document (an answer that is no stream), or a list of them (Gemini's stream).
function framings.json(state, chunk, eof)
  local out, start, whole_from = {}, 1, nil
  local k, b = next_bracket(state, chunk, 1)
  while k do
    local what = nest(state, b)
    if what == "object" then
      state.published.whole = (state.base or 0) == 0
      if state.cure and state.published.whole then  -- ai-proxy collects it: there is nothing to cure
        out[#out + 1] = take(state, sub(chunk, start, k - 1))
        state.cure, whole_from = nil, k
      end
      if not state.cure then start = k end
    elseif what then
      local text = take(state, sub(chunk, start, k))
      start = k + 1
      if what == "end" then finish_object(state, text) end
      if state.cure then out[#out + 1] = text end
    end
    k, b = next_bracket(state, chunk, k + 1)
  end

  local rest = sub(chunk, start)
  if state.cure then
    -- ai-proxy splits a list at the commas that follow a line's end.
    if #out > 0 and not eof then out[#out + 1] = "\n" end
    out[#out + 1] = eof and take(state, rest) or hold(state, rest)
    return concat(out)
  end
  if (state.depth or 0) > (state.base or 0) then hold(state, rest) end
  if whole_from then return concat(out) .. sub(chunk, whole_from) end
end

-- AWS's event stream: the frame's length, its headers' length, a checksum, headers, payload, a checksum.
local PRELUDE, FRAME_EXTRA = 12, 16

local function big_endian(s, i)
  local b1, b2, b3, b4 = byte(s, i, i + 3)
  return ((b1 * 256 + b2) * 256 + b3) * 256 + b4
end

function framings.aws(state, chunk, eof)
  push(state, chunk)
  if state.size < (state.needed or PRELUDE) and not eof then return state.cure and "" or nil end
  local bytes, from = take(state, ""), 1
  state.needed = PRELUDE
  while #bytes - from + 1 >= PRELUDE do
    local length, headers = big_endian(bytes, from), big_endian(bytes, from + 4)
    if length < FRAME_EXTRA + headers or length > BOUND then
      state.read, state.published.bad = nil, (state.published.bad or 0) + 1
      return state.cure and bytes or nil
    end
    if #bytes - from + 1 < length then
      state.needed = length
      break
    end
    local payload = sub(bytes, from + PRELUDE + headers, from + length - 5)
    if byte(payload, 1) == OPEN_BRACE then read(state.published, payload, 1) end
    from = from + length
  end
  if not eof then push(state, sub(bytes, from)) end
  if state.cure then return eof and bytes or sub(bytes, 1, from - 1) end
end

-- == The filter

-- The reader itself has failed, which none of its tests could make it do: pass on what is held, and
-- read no more. The error's text is not published, since it might quote the answer.
local function give_up(state, chunk)
  local published = state.published
  published.bad, published.err = (published.bad or 0) + 1, state.read
  state.read = nil
  local event = state.event and concat(state.event) or ""
  return (state.strip or state.cure) and event .. take(state, chunk) or nil
end

-- ai-proxy 3.9 handles the events that it parsed last once more when it gets an empty chunk, and so
-- sends and counts them twice: take them away.
local function forget_last_events()
  local ai = ngx.ctx.ai_namespaced_ctx
  local parsed = ai and ai["parse-sse-chunk"]
  if parsed and parsed.current_events then parsed.current_events = {} end
end

local function filter()
  local state = kong.ctx.plugin.reader
  if not state then return end
  local chunk, eof = ngx.arg[1], ngx.arg[2]
  if type(chunk) ~= "string" then chunk = "" end
  local published = state.published
  published.bytes = published.bytes + #chunk
  if eof then published.eof = true end
  if not state.read then return end

  local ok, out = pcall(framings[state.read], state, chunk, eof)
  if not ok then out = give_up(state, chunk) end
  if out and out ~= chunk then ngx.arg[1] = out end
  local emptied = out == "" and chunk ~= ""  -- by our own doing: whatever the switch, it must do no harm
  if emptied or (CURE_SPLIT_FRAMES and (out or chunk) == "") then forget_last_events() end
end

-- An error in body_filter would drop the client's connection.
return function() pcall(filter) end

--@section post-function access
-- A compressed answer cannot be read. ai-proxy's drivers set this header themselves, so it is set
-- after them, in post-function.
kong.service.request.set_header("Accept-Encoding", "identity")
