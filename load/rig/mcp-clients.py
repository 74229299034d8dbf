"""
The Python SDK's stock client against the tools: lists them and calls each of the five. Prints one line of JSON with what it
saw; ends with code 1 when anything differs. Called by mcp-clients.ts with a JSON object as its only argument: {"url", "token"}
for Streamable HTTP, {"command", "args", "env", "cwd"} for stdio.
"""

import asyncio
import json
import sys
from importlib.metadata import version

from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client

NAMES = ["add_task", "list_tasks", "complete_task", "delete_task", "update_task"]


async def walk(client: Client) -> list[str]:
    listed = [tool.name for tool in (await client.list_tools()).tools]
    assert listed == NAMES, listed
    calls = []

    async def call(tool: str, is_error: bool = False, **arguments):
        result = await client.call_tool(tool, arguments)
        assert bool(result.is_error) == is_error, (tool, result)
        calls.append(tool)
        return result.structured_content

    task = await call("add_task", title="from the Python client", description="one")
    identity = task["task_id"]
    assert (await call("update_task", task_id=identity, description="two"))["description"] == "two"
    assert (await call("complete_task", task_id=identity))["completed"] is True
    found = await call("list_tasks", status="completed", query="Python client")
    assert [t["id"] for t in found["tasks"]] == [identity], found
    assert (await call("delete_task", task_id=identity))["task_id"] == identity
    again = await call("delete_task", is_error=True, task_id=identity)
    assert again["error"] == "TaskNotFound", again
    wrong = await call("add_task", is_error=True, title="")
    assert wrong["error"] == "InvalidTitle", wrong
    return calls


async def main(given: dict) -> None:
    if "url" in given:
        headers = {"Authorization": f"Bearer {given['token']}"}
        async with create_mcp_http_client(headers=headers) as http:
            async with Client(streamable_http_client(given["url"], http_client=http)) as client:
                calls = await walk(client)
                protocol = client.protocol_version
    else:
        async with Client(StdioServerParameters(**given)) as client:
            calls = await walk(client)
            protocol = client.protocol_version
    print(json.dumps({"version": version("mcp"), "protocol": protocol, "tools": len(NAMES), "calls": len(calls)}))


asyncio.run(main(json.loads(sys.argv[1])))
