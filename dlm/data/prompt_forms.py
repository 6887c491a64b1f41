"""How the prompts that a model was trained with are worded, for whoever asks it later."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from dlm.data.examples import ExampleRecipe
from dlm.data.prompts import Template
from dlm.data.sources import Place, Row
from dlm.data.tasks.instructions import BEFORE_A_REPLY, BETWEEN_TURNS, ROLES, open_dialogue

_CHAT, _DIALOGUE = "chat", "dialogue"
_SHOWN_DIALOGUE = f"User: ...{BETWEEN_TURNS}{BEFORE_A_REPLY}"


@dataclass(frozen=True)
class PromptForm:
    """The template of a prompt, and the task whose rows it was filled with."""

    task: str
    prompt: str

    @property
    def chat(self) -> bool:
        """Whether the rows were conversations."""
        return self.task == _CHAT

    def fits(self, prompt: str) -> bool:
        """Whether a text may be this template filled in: its words are there, in their order."""
        words = [text for text, _ in self._parts]
        position = 0
        for text in words:
            found = prompt.find(text, position)
            if found < 0:
                return False
            position = found + len(text)
        return self._parts[-1][1] is not None or prompt.endswith(words[-1])

    def __str__(self) -> str:
        """The template, as a reader would write it."""
        if self.chat:
            return self.prompt.replace(f"{{{_DIALOGUE}}}", _SHOWN_DIALOGUE)
        return self.prompt

    def asks(self, row: Row, place: Place) -> str:
        """The prompt of a conversation that the assistant is to go on with.

        Raises:
            BadRow: It is none, or a field of the template is missing.
        """
        fields = {**row, _DIALOGUE: open_dialogue(row, place)}
        return Template(self.prompt, "").ask(fields, place)[0]

    def chat_template(self) -> str | None:
        """The same as a Jinja template over ``messages``, which tokenizers and servers know; None
        where the rows were no conversations, or more than the conversation was asked with."""
        parts = Template(self.prompt, "").prompt_parts
        if not self.chat or [name for _, name in parts if name is not None] != [_DIALOGUE]:
            return None
        field = [name for _, name in parts].index(_DIALOGUE)
        before = "".join(text for text, _ in parts[: field + 1]).lstrip()
        behind = "".join(text for text, _ in parts[field + 1 :]).rstrip()
        roles = json.dumps(ROLES)
        return (
            f"{{% set roles = {roles} %}}{_jinja(before)}"
            "{% for message in messages %}"
            f"{{% if not loop.first %}}{_jinja(BETWEEN_TURNS)}{{% endif %}}"
            "{{ roles[message['role'] | lower] }}: {{ message['content'] | trim }}"
            "{% endfor %}"
            f"{{% if add_generation_prompt %}}{_jinja(BETWEEN_TURNS + BEFORE_A_REPLY + behind)}"
            "{% endif %}"
        )

    @property
    def _parts(self) -> list[tuple[str, str | None]]:
        """Words and the field behind each; a conversation ends with the assistant's name."""
        parts: list[tuple[str, str | None]] = []
        for text, name in Template(self.prompt.strip(), "").prompt_parts:
            if self.chat and name == _DIALOGUE:
                parts += [(text, name), (BETWEEN_TURNS + BEFORE_A_REPLY, None)]
            else:
                parts.append((text, name))
        return parts or [("", None)]


def prompt_forms(examples: ExampleRecipe) -> tuple[PromptForm, ...]:
    """The forms of the prompts of a set, each once; texts have none."""
    return tuple(dict.fromkeys(
        PromptForm(source.task, template.prompt)
        for source in examples.sources if source.conditional
        for template in source.templates
    ))  # fmt: skip


def worded_otherwise(forms: Sequence[PromptForm], prompts: Sequence[str]) -> str | None:
    """What is to be said of prompts that have none of the forms that a model was trained with;
    None where all have one, or nothing is known."""
    others = [p for p in prompts if not any(form.fits(p.strip()) for form in forms)]
    if not forms or not others:
        return None
    shown = ", ".join(json.dumps(str(form), ensure_ascii=False) for form in forms[:3])
    more = f" and {len(forms) - 3} more" if len(forms) > 3 else ""
    chat = " or give --input rows with `messages`" if any(form.chat for form in forms) else ""
    which = "The prompt is" if len(prompts) == 1 else f"{len(others)} of {len(prompts)} prompts are"
    return (
        f"{which} not worded as the model's were in training, and answers may be poor: word them "
        f"as {shown}{more},{chat or ' with your own text where a name stands in braces'}"
    )


def _jinja(text: str) -> str:
    """A text as it is, in a template."""
    return f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}" if text else ""
