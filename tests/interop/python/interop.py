"""What every Python driver shares: the scenarios' prompts, and how results are told.

A driver gives one function for each scenario of each API. What a client understood is printed as one JSON object,
{api: {scenario: result}}; what it did not survive is printed as {"broken": …}.
"""

import json
import os
import traceback

TAG = os.environ["INTEROP_TAG"]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
MODELS = {"chat_completions": "gpt-5.2", "responses": "gpt-5.2", "messages": "claude-sonnet-5"}


def prompt(api, scenario):
    """The prompt tells the provider what to play, and the records which client asked."""
    return f"{TAG} {api} [{scenario}] What is the weather in Zürich? ☂"


def weather(city):
    assert city == "Zürich", city
    return "rain"


def main(apis):
    results = {}
    for api, scenarios in apis.items():
        results[api] = {}
        for scenario, play in scenarios.items():
            try:
                results[api][scenario] = play(prompt(api, scenario))
            except Exception:
                results[api][scenario] = {"broken": traceback.format_exc()[-1500:]}
    print(json.dumps(results))


def error(call):
    """The status and message of the error that the client raises."""
    try:
        call()
    except Exception as error:
        return {"status": getattr(error, "status_code", None), "message": str(error)}
    raise AssertionError("no error was raised")
