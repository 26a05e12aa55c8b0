"""The models by the value of `model.kind`. To add a model, write its file and add one line here."""

MODELS: dict[str, str] = {  # kind: module and class
    "bigram": "stages.models.bigram:Bigram",
    "average": "stages.models.average:Average",
    "head": "stages.models.head:SingleHead",
    "multihead": "stages.models.multihead:MultiHead",
    "block": "stages.models.block:SingleBlock",
    "lecture_gpt": "stages.models.lecture_gpt:LectureGPT",
    "kneser_ney": "stages.models.kneser_ney:KneserNey",
    "gpt": "stages.models.gpt:GPT",
}
