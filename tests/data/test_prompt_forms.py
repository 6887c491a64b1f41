"""How a model's prompts were worded: kept, recognised, and as a chat template."""

from typing import Any

import pytest
from small_vocabulary import tokenizer_of

from dlm.data.examples import ExampleRecipe, TaskSource
from dlm.data.prompt_forms import PromptForm, prompt_forms, worded_otherwise
from dlm.data.prompts import Template
from dlm.data.sources import BadRow, Place, Source
from dlm.data.tasks.registry import TASKS, shipped_templates

PLACE = Place("rows", 1)
CHAT = PromptForm("chat", "{dialogue}")
CONVERSATIONS: list[list[dict[str, str]]] = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "a\n\nb"}],
    [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "human", "content": "three"},
    ],
]


def source(task: str, *prompts: str) -> TaskSource:
    templates = tuple(Template(prompt, "{tgt}") for prompt in prompts)
    return TaskSource(task, Source(split="", generator="number_pairs"), task, templates)


def test_each_form_of_a_set_is_kept_once_and_texts_have_none() -> None:
    examples = ExampleRecipe((
        source("translation", "Say {src}", "{src}"), source("text", ""),
        source("translation", "{src}", "In German: {src}"),
    ))  # fmt: skip
    assert [form.prompt for form in prompt_forms(examples)] == [
        "Say {src}", "{src}", "In German: {src}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("form", "prompt", "fits"),
    [
        (PromptForm("math", "Question: {question}\n\nAnswer:"), "Question: 1+1?\n\nAnswer:", True),
        (PromptForm("math", "Question: {question}\n\nAnswer:"), "1+1?", False),
        (PromptForm("math", "Question: {question}\n\nAnswer:"), "Question: 1+1?", False),
        (PromptForm("math", "Question: {question}\n\nAnswer:"),
         "Question: 1?\n\nAnswer: 1\n\nQuestion: 2?\n\nAnswer:", True),
        (PromptForm("translation", "{src}"), "anything at all", True),
        (PromptForm("paraphrase", "Say this in other words: {src}"), "Say this: a", False),
        (PromptForm("paraphrase", "Say this in other words: {src}"),
         "Say this in other words: a", True),
        (CHAT, "User: Hi\n\nAssistant:", True),
        (CHAT, "Hi", False),
        (CHAT, "User: Hi", False),
        (PromptForm("chat", "### {dialogue} go:"), "### User: Hi\n\nAssistant: go:", True),
        (PromptForm("chat", "### {dialogue} go:"), "User: Hi\n\nAssistant:", False),
    ],
)  # fmt: skip
def test_a_prompt_fits_where_the_words_of_the_template_stand(
    form: PromptForm, prompt: str, fits: bool
) -> None:
    assert form.fits(prompt) is fits


def test_a_filled_template_always_fits() -> None:
    row = {"question": "Why {so}?", "problem": "x", "context": "c", "src": "Say", "request": "r",
           "document": "d", "answer": "a", "inputs": "i"}  # fmt: skip
    for task, shape in TASKS.items():
        for prompt, _ in shipped_templates()[task] if shape.conditional and task != "chat" else []:
            text = Template(prompt, "").ask(row, PLACE)[0]
            assert PromptForm(task, prompt).fits(text), prompt


def test_prompts_of_another_wording_are_said_with_what_to_write() -> None:
    note = worded_otherwise((CHAT,), ["Hi", "User: Hi\n\nAssistant:"])
    assert note is not None and note.startswith("1 of 2 prompts are not worded as the model's")
    assert '"User: ...\\n\\nAssistant:", or give --input rows with `messages`' in note
    forms = [PromptForm("math", f"{n}: {{question}}") for n in range(5)]
    note = worded_otherwise(forms, ["Hi"])
    assert note is not None and note.startswith("The prompt is not worded")
    assert '"0: {question}", "1: {question}", "2: {question}" and 2 more' in note
    assert worded_otherwise((), ["Hi"]) is None
    assert worded_otherwise((*forms, PromptForm("instruction", "{inputs}")), ["Hi"]) is None


@pytest.mark.parametrize("turns", CONVERSATIONS)
@pytest.mark.parametrize("prompt", ["{dialogue}", '  <"é\\{{x}}"> {dialogue}\n>>  '])
def test_the_chat_template_words_a_conversation_as_training_does(
    prompt: str, turns: list[dict[str, str]]
) -> None:
    tokenizer = tokenizer_of()
    form = PromptForm("chat", prompt)
    tokenizer.chat_template = form.chat_template()
    rendered = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    row: dict[str, Any] = {"messages": turns}
    assert rendered == form.asks(row, PLACE)
    (trained,) = TASKS["chat"].adapt(
        {"messages": [*turns, {"role": "assistant", "content": "x"}]}, PLACE
    )[-1:]
    assert rendered == Template(prompt, "{reply}").fill(trained, PLACE)[0]


def test_there_is_no_chat_template_of_other_tasks_or_with_further_fields() -> None:
    assert PromptForm("instruction", "{inputs}").chat_template() is None
    assert PromptForm("chat", "{system}\n{dialogue}").chat_template() is None


def test_a_conversation_that_ends_with_a_reply_is_not_asked() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    with pytest.raises(BadRow, match="the last turn is the assistant's: remove it"):
        CHAT.asks({"messages": turns}, PLACE)


def test_rows_without_their_replies_are_asked_for_the_next_one() -> None:
    adapt = TASKS["chat"].adapt_open
    assert adapt is not None
    (asked,) = adapt({"messages": CONVERSATIONS[2]}, PLACE)
    assert asked["dialogue"] == ("User: one\n\nAssistant: two\n\nUser: three\n\nAssistant:")
    with_reply = [*CONVERSATIONS[2], {"role": "assistant", "content": "four"}]
    assert [fields["reply"] for fields in adapt({"messages": with_reply}, PLACE)] == ["two", "four"]
