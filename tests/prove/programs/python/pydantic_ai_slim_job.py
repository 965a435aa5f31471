"""pydantic-ai: an agent with a tool, typed answers by tool and schema, over chat and Responses."""

import asyncio
import sys

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider


class Person(BaseModel):
    name: str
    age: int


async def job(model) -> None:
    weather = Agent(model, instructions="Be brief.")

    @weather.tool_plain
    def get_weather(city: str) -> str:
        """The weather of a city."""
        return f"{city}: 21 degrees"

    question, wanted = "What is the weather in Paris?", "The tool says: Paris: 21 degrees"
    done = await weather.run(question)
    assert done.output == wanted, done
    async with weather.run_stream(question) as streamed:
        pieces = [piece async for piece in streamed.stream_text(delta=True, debounce_by=None)]
    assert len(pieces) > 1, "it came in one piece"
    assert "".join(pieces) == wanted, pieces
    for form in (Person, NativeOutput(Person)):
        reader = Agent(model, output_type=form)
        found = (await reader.run("Anna is 30 years old.")).output
        assert found == Person(name="Anna", age=30), found


async def main(url: str) -> None:
    provider = OpenAIProvider(base_url=f"{url}/v1", api_key="none")
    await job(OpenAIChatModel("tiny", provider=provider))
    await job(OpenAIResponsesModel("tiny", provider=provider))
    print("pydantic-ai-slim: done")


asyncio.run(main(sys.argv[1]))
