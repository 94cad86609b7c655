"""One call of each API, blocking and streamed, with the official SDKs as they are installed.

Proxy, authority and keys come from the environment, as they would for any program. Prints what the SDKs understood of
the replies as one JSON object: {api: {"blocking" | "stream": {model, tool_call_id, arguments, output_tokens}}}.
"""

import json

from anthropic import Anthropic
from openai import OpenAI

PROMPT = "What is the weather in Zürich? ☂"
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}

openai = OpenAI(max_retries=0, timeout=20)
anthropic = Anthropic(max_retries=0, timeout=20)


def result(model, tool_call_id, arguments, output_tokens):
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    return {
        "model": model,
        "tool_call_id": tool_call_id,
        "arguments": arguments,
        "output_tokens": output_tokens,
    }


CHAT = {
    "model": "gpt-5.2",
    "messages": [{"role": "user", "content": PROMPT}],
    "tools": [{"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}],
}


def chat_blocking():
    reply = openai.chat.completions.create(**CHAT)
    call = reply.choices[0].message.tool_calls[0]
    return result(reply.model, call.id, call.function.arguments, reply.usage.completion_tokens)


def chat_stream():
    model = call_id = usage = None
    arguments = ""
    stream = openai.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True})
    for chunk in stream:
        model = chunk.model
        usage = chunk.usage or usage
        for choice in chunk.choices:
            for call in choice.delta.tool_calls or []:
                call_id = call.id or call_id
                arguments += call.function.arguments or ""
    return result(model, call_id, arguments, usage.completion_tokens)


RESPONSES = {
    "model": "gpt-5.2",
    "input": [{"role": "user", "content": PROMPT}],
    "tools": [{"type": "function", "name": "get_weather", "parameters": PARAMETERS, "strict": False}],
}


def of_response(reply):
    call = next(item for item in reply.output if item.type == "function_call")
    return result(reply.model, call.call_id, call.arguments, reply.usage.output_tokens)


def responses_blocking():
    return of_response(openai.responses.create(**RESPONSES))


def responses_stream():
    done = None
    for event in openai.responses.create(**RESPONSES, stream=True):
        if event.type == "response.completed":
            done = event.response
    return of_response(done)


MESSAGES = {
    "model": "claude-sonnet-5",
    "max_tokens": 1024,
    "messages": [{"role": "user", "content": PROMPT}],
    "tools": [{"name": "get_weather", "input_schema": PARAMETERS}],
}


def of_message(reply):
    call = next(block for block in reply.content if block.type == "tool_use")
    return result(reply.model, call.id, call.input, reply.usage.output_tokens)


def messages_blocking():
    return of_message(anthropic.messages.create(**MESSAGES))


def messages_stream():
    with anthropic.messages.stream(**MESSAGES) as stream:
        return of_message(stream.get_final_message())


print(
    json.dumps(
        {
            "chat_completions": {"blocking": chat_blocking(), "stream": chat_stream()},
            "responses": {"blocking": responses_blocking(), "stream": responses_stream()},
            "messages": {"blocking": messages_blocking(), "stream": messages_stream()},
        }
    )
)
