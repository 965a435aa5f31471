"""openai-agents: an agent with a tool, and one with a typed answer, over Responses and chat."""

import asyncio
import sys

from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from pydantic import BaseModel


class Person(BaseModel):
    name: str
    age: int


@function_tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"{city}: 21 degrees"


async def job(model) -> None:
    weather = Agent(name="Weather", instructions="Be brief.", model=model, tools=[get_weather])
    question, wanted = "What is the weather in Paris?", "The tool says: Paris: 21 degrees"
    done = await Runner.run(weather, question)
    assert done.final_output == wanted, done
    streamed = Runner.run_streamed(weather, question)
    events = [event async for event in streamed.stream_events()]
    assert any(event.type == "run_item_stream_event" for event in events)
    assert streamed.final_output == wanted, streamed
    reader = Agent(name="Reader", model=model, output_type=Person)
    found = (await Runner.run(reader, "Anna is 30 years old.")).final_output
    assert found == Person(name="Anna", age=30), found


async def main(url: str) -> None:
    set_tracing_disabled(True)  # traces go to OpenAI
    client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none")
    await job(OpenAIResponsesModel(model="tiny", openai_client=client))
    await job(OpenAIChatCompletionsModel(model="tiny", openai_client=client))
    print("openai-agents: done")


asyncio.run(main(sys.argv[1]))
