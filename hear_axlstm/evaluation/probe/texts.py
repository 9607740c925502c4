# ruff: noqa: RUF001 - Turkish has an i without a dot
"""Digits, and sentences by language of espeak-ng: those of test clips are spoken in no other clip."""

from __future__ import annotations

from hear_axlstm.synthesis.held_out import Part

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

SENTENCES: dict[str, dict[Part, tuple[str, ...]]] = {
    "en-us": {
        "train": (
            "The bus to the station leaves every ten minutes from the corner over there.",
            "My grandmother keeps her letters in a small wooden box under the bed.",
            "If it rains tomorrow we will stay at home and bake some bread.",
            "Nobody knew why the lights in the library were still burning.",
        ),
        "test": (
            "She bought three green apples and a newspaper on her way to work.",
            "The children have been looking for their dog since early this morning.",
            "Please close the window before you go, because the nights are getting cold.",
        ),
    },
    "de": {
        "train": (
            "Der Bus zum Bahnhof fährt alle zehn Minuten dort drüben an der Ecke ab.",
            "Meine Großmutter bewahrt ihre Briefe in einer kleinen Kiste unter dem Bett auf.",
            "Wenn es morgen regnet, bleiben wir zu Hause und backen Brot.",
            "Niemand wusste, warum in der Bibliothek noch das Licht brannte.",
        ),
        "test": (
            "Sie hat auf dem Weg zur Arbeit drei grüne Äpfel und eine Zeitung gekauft.",
            "Die Kinder suchen schon seit heute früh nach ihrem Hund.",
            "Mach bitte das Fenster zu, bevor du gehst, denn die Nächte werden kalt.",
        ),
    },
    "fr": {
        "train": (
            "Le bus pour la gare part toutes les dix minutes du coin de la rue.",
            "Ma grand-mère garde ses lettres dans une petite boîte sous son lit.",
            "S'il pleut demain, nous resterons à la maison et nous ferons du pain.",
            "Personne ne savait pourquoi la bibliothèque était encore éclairée.",
        ),
        "test": (
            "Elle a acheté trois pommes vertes et un journal en allant au travail.",
            "Les enfants cherchent leur chien depuis ce matin de bonne heure.",
            "Ferme la fenêtre avant de partir, parce que les nuits deviennent froides.",
        ),
    },
    "es": {
        "train": (
            "El autobús a la estación sale cada diez minutos de aquella esquina.",
            "Mi abuela guarda sus cartas en una caja pequeña debajo de la cama.",
            "Si mañana llueve, nos quedaremos en casa y haremos pan.",
            "Nadie sabía por qué seguían encendidas las luces de la biblioteca.",
        ),
        "test": (
            "Compró tres manzanas verdes y un periódico de camino al trabajo.",
            "Los niños buscan a su perro desde esta mañana temprano.",
            "Cierra la ventana antes de irte, porque las noches ya son frías.",
        ),
    },
    "it": {
        "train": (
            "L'autobus per la stazione parte ogni dieci minuti da quell'angolo.",
            "Mia nonna conserva le sue lettere in una piccola scatola sotto il letto.",
            "Se domani piove, resteremo a casa e faremo il pane.",
            "Nessuno sapeva perché le luci della biblioteca fossero ancora accese.",
        ),
        "test": (
            "Ha comprato tre mele verdi e un giornale andando al lavoro.",
            "I bambini cercano il loro cane da stamattina presto.",
            "Chiudi la finestra prima di uscire, perché le notti diventano fredde.",
        ),
    },
    "pl": {
        "train": (
            "Autobus na dworzec odjeżdża co dziesięć minut z tamtego rogu.",
            "Moja babcia trzyma swoje listy w małym pudełku pod łóżkiem.",
            "Jeśli jutro będzie padać, zostaniemy w domu i upieczemy chleb.",
            "Nikt nie wiedział, dlaczego w bibliotece wciąż paliło się światło.",
        ),
        "test": (
            "W drodze do pracy kupiła trzy zielone jabłka i gazetę.",
            "Dzieci szukają swojego psa od wczesnego rana.",
            "Zamknij okno, zanim wyjdziesz, bo noce robią się zimne.",
        ),
    },
    "tr": {
        "train": (
            "İstasyona giden otobüs her on dakikada bir şu köşeden kalkıyor.",
            "Büyükannem mektuplarını yatağın altındaki küçük bir kutuda saklıyor.",
            "Yarın yağmur yağarsa evde kalıp ekmek pişireceğiz.",
            "Kütüphanenin ışıklarının neden hâlâ yandığını kimse bilmiyordu.",
        ),
        "test": (
            "İşe giderken üç yeşil elma ve bir gazete aldı.",
            "Çocuklar bu sabah erkenden beri köpeklerini arıyorlar.",
            "Gitmeden önce pencereyi kapat, çünkü geceler soğumaya başladı.",
        ),
    },
    "fi": {
        "train": (
            "Bussi asemalle lähtee kymmenen minuutin välein tuosta kulmasta.",
            "Isoäitini säilyttää kirjeensä pienessä laatikossa sängyn alla.",
            "Jos huomenna sataa, jäämme kotiin ja leivomme leipää.",
            "Kukaan ei tiennyt, miksi kirjastossa paloivat vielä valot.",
        ),
        "test": (
            "Hän osti matkalla töihin kolme vihreää omenaa ja sanomalehden.",
            "Lapset ovat etsineet koiraansa aamuvarhaisesta asti.",
            "Sulje ikkuna ennen kuin lähdet, sillä yöt alkavat olla kylmiä.",
        ),
    },
}
