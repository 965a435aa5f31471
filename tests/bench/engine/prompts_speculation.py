"""Prompts for the benchmark of speculation: answers that copy their prompt, and others.

The copy-heavy ones are what prompt lookup is for: a text to give back, a small change to a piece of
code, a list to write out. The chat ones are ordinary questions, where it must not cost anything.
"""

TEXT = """The ferry left the harbour at six in the morning, a little later than the timetable said.
On deck stood eleven passengers, two bicycles and a crate of lemons that belonged to nobody. The
captain, Maria Okonkwo, had crossed this strait more than nine thousand times, and she still kept a
notebook of every bird that followed the boat. At seven the fog lifted, and the island of Skarholm
lay ahead of them: a white lighthouse, forty houses, and a bakery whose smoke could be smelled a
mile out to sea."""

CODE = """def summarize(orders):
    total = 0
    by_customer = {}
    for order in orders:
        if order.status == "cancelled":
            continue
        price = order.quantity * order.unit_price
        total += price
        name = order.customer.name
        by_customer[name] = by_customer.get(name, 0) + price
    largest = max(by_customer, key=by_customer.get)
    return {"total": total, "by_customer": by_customer, "largest": largest}
"""

JSON = """[
  {"id": 101, "name": "Anna Lindqvist", "city": "Uppsala", "active": true},
  {"id": 102, "name": "Bruno Carvalho", "city": "Porto", "active": false},
  {"id": 103, "name": "Chidi Eze", "city": "Lagos", "active": true},
  {"id": 104, "name": "Dora Weiss", "city": "Basel", "active": true},
  {"id": 105, "name": "Emil Novak", "city": "Brno", "active": false},
  {"id": 106, "name": "Farah Haddad", "city": "Amman", "active": true}
]"""

COPY = {
    "repeat": f"Repeat the following text exactly, word for word.\n\n{TEXT}",
    "code edit": "Rename the variable `total` to `revenue` in this function, and write the whole "
    f"function again.\n\n```python\n{CODE}```",
    "json": f"Write this JSON list again exactly as it is.\n\n```json\n{JSON}\n```",
}

CHAT = {
    "sky": "Why is the sky blue?",
    "story": "Write a short story about a fox who learns to swim.",
    "advice": "I have a job interview tomorrow and I am nervous. What should I do?",
    "history": "Tell me about the history of the printing press.",
    "cook": "How do I make a simple tomato soup?",
    "planets": "Which planet in the solar system is your favourite, and why?",
    "poem": "Write a poem about the sea in winter.",
    "explain": "Explain what a database index is to a ten-year-old.",
}
