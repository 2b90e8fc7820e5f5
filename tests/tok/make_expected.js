// make_expected.js - writes o200k.txt: texts and the ids that OpenAI's tiktoken (its Rust, as WebAssembly) gives them.
//
//   cd /tmp && npm install tiktoken@1.0.22 gpt-tokenizer@4.0.0 && xz -dk tokenizer.json.xz
//   NODE_PATH=/tmp/node_modules node make_expected.js tokenizer.json > o200k.txt
//   NODE_PATH=/tmp/node_modules node make_expected.js tokenizer.json --every DIR    every code point; too large to store
//
// A line: [+]ids TAB text, with \\ \n \r \t \0 escaped; + means that special tokens become ids. Special tokens come from
// tokenizer.json's added_tokens. gpt-tokenizer, written on its own, must agree wherever its \s (JavaScript's: U+FEFF, not
// U+0085) does not matter. The random texts come from a fixed seed.
// --every writes each code point in 13 surroundings, NUL-ended, to DIR/every.txt and the ids to DIR/every.ids; compare with
//   gptoss-tok encode -0 -z o200k_base.tiktoken DIR/every.txt
// (2026-11-24: all ids equal, for all 1,112,063 code points.)
const fs = require('fs');
const { Tiktoken } = require('tiktoken');
const base = require('tiktoken/encoders/o200k_base.json');
const other = require('gpt-tokenizer/encoding/o200k_base');

const added = JSON.parse(fs.readFileSync(process.argv[2])).added_tokens;
const tok = new Tiktoken(base.bpe_ranks, Object.fromEntries(added.map(a => [a.content, a.id])), base.pat_str);
const plain = s => Array.from(tok.encode_ordinary(s));
const special = s => Array.from(tok.encode(s, 'all', []));

let seed = 20261121;
function random(n) { // xorshift32
    seed ^= seed << 13, seed ^= seed >>> 17, seed ^= seed << 5;
    return (seed >>> 0) % n;
}
const pick = list => list[random(list.length)];
const many = (low, high, make) => Array.from({ length: low + random(high - low + 1) }, make).join('');
const points = function* () {
    for (let c = 1; c < 0x110000; c++) if (c < 0xd800 || c > 0xdfff) yield c;
};

if (process.argv[3] === '--every') {
    const around = [c => c, c => 'a' + c + 'b', c => 'A' + c + 'b ', c => ' ' + c + c + ' x', c => '1' + c + '2',
        c => "x'" + c + ' y', c => '\n' + c + '\n', c => '.' + c + '.', c => ' ' + c,
        c => c + "'s", c => c + '1234', c => 'A' + c + "'S ", c => "y " + c + '/\n'];
    const texts = fs.createWriteStream(process.argv[4] + '/every.txt'), ids = fs.createWriteStream(process.argv[4] + '/every.ids');
    for (const f of around) {
        let t = [], i = [];
        for (const c of points()) {
            const s = f(String.fromCodePoint(c));
            t.push(s + '\0'), i.push(plain(s).join(' ') + '\n');
            if (t.length === 20000) texts.write(t.join('')), ids.write(i.join('')), t = [], i = [];
        }
        texts.write(t.join('')), ids.write(i.join(''));
    }
    return;
}

const out = [], seen = new Set();
function add(s, specials = false) {
    const key = (specials ? '+' : '') + s;
    if (seen.has(key)) return;
    seen.add(key);
    const ids = specials ? special(s) : plain(s);
    if (!specials && !/[\u0085\u180e\ufeff]/.test(s) && other.encode(s, { disallowedSpecial: new Set() }).join() !== ids.join())
        throw new Error('tiktoken and gpt-tokenizer differ on ' + JSON.stringify(s));
    const text = s.replace(/[\\\n\r\t\0]/g, c => ({ '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t', '\0': '\\0' })[c]);
    out.push((specials ? '+' : '') + ids.join(' ') + '\t' + text);
}

add('');
for (let c = 0; c < 0x180; c++) add(String.fromCodePoint(c)), add('a' + String.fromCodePoint(c) + 'b');

// sentences
for (const s of [
    "The quick brown fox jumps over the lazy dog. It's 3.14159 — don't you think?", 'Alle Menschen sind frei und gleich an Würde und Rechten geboren; Straßenbahn, ÄÖÜ.',
    'Tous les êtres humains naissent libres et égaux en dignité et en droits. L’été, où ça ?', 'Todos los seres humanos nacen libres e iguales en dignidad y derechos. ¿Qué?',
    'Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv.', 'Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw.',
    'Все люди рождаются свободными и равными в своём достоинстве и правах.', 'Всі люди народжуються вільними і рівними у своїй гідності та правах.',
    'Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια.', 'Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. İIıi',
    'Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi.', 'يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق. ١٢٣٤٥',
    'תָּמִיד כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.', 'همهٔ افراد بشر آزاد به دنیا می‌آیند. ۱۲۳۴', 'سب انسان آزاد اور حقوق و عزت کے اعتبار سے برابر پیدا ہوئے ہیں۔',
    'सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता प्राप्त है। १२३४', 'সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে।',
    'மனிதப் பிறிவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்.', 'ప్రతిపత్తిస్వత్వముల విషయమున మానవులెల్లరును జన్మతః స్వతంత్రులు.', 'മനുഷ്യരെല്ലാവരും തുല്യാവകാശങ്ങളോടും അന്തസ്സോടും ജനിച്ചിട്ടുള്ളവരാണ്.',
    'มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ๑๒๓๔', 'ມະນຸດເກີດມາມີສິດເສລີພາບ', 'လူတိုင်းသည် တူညီလွတ်လပ်သော ဂုဏ်သိက္ခာဖြင့် မွေးဖွားလာသူများဖြစ်သည်။',
    'មនុស្សទាំងអស់កើតមកមានសេរីភាព និងសមភាព', 'ყველა ადამიანი იბადება თავისუფალი. ᲧᲕᲔᲚᲐ', 'Բոլոր մարդիկ ծնվում են ազատ ու հավասար', 'የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው።',
    '人人生而自由，在尊严和权利上一律平等。１２３４', '人人生而自由,在尊嚴和權利上一律平等。', 'すべての人間は、生まれながらにして自由であり、ｶﾀｶﾅ', '모든 인간은 태어날 때부터 자유로우며 ㄱㄴㄷ 각',
    'ཡོངས་ལ་འགྲེམས་སྤེལ', 'ᏣᎳᎩ ꮳꮃꭹ', 'ᠮᠣᠩᠭᠣᠯ\u180eᠠ ᠪᠢᠴᠢᠭ', '𐐀𐐨𐐔𐐲 𝒳𝓎𝟙𝟚𝟛𝟜 ⅠⅡⅢⅣ ①②③④ ½¾ x²³⁴⁵', 'ǅabc ǈ ǋ ʰʱ ªº ﬁﬂ ŉ',
]) add(s), add(s.toUpperCase()), add(' ' + s + '\n'), add(s.normalize('NFD')), add(s.replace(/ /g, '  ')), add(s.replace(/ /g, '\n'));

// every script: words of its own characters
const scripts = {};
const names = ('Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak Bengali Bhaiksuki Bopomofo Brahmi ' +
    'Braille Buginese Buhid Canadian_Aboriginal Carian Caucasian_Albanian Chakma Cham Cherokee Chorasmian Common Coptic Cuneiform Cypriot ' +
    'Cypro_Minoan Cyrillic Deseret Devanagari Dives_Akuru Dogra Duployan Egyptian_Hieroglyphs Elbasan Elymaic Ethiopic Georgian Glagolitic ' +
    'Gothic Grantha Greek Gujarati Gunjala_Gondi Gurmukhi Han Hangul Hanifi_Rohingya Hanunoo Hatran Hebrew Hiragana Imperial_Aramaic ' +
    'Inherited Inscriptional_Pahlavi Inscriptional_Parthian Javanese Kaithi Kannada Katakana Kayah_Li Kharoshthi Khitan_Small_Script ' +
    'Khmer Khojki Khudawadi Lao Latin Lepcha Limbu Linear_A Linear_B Lisu Lycian Lydian Mahajani Makasar Malayalam Mandaic Manichaean ' +
    'Marchen Masaram_Gondi Medefaidrin Meetei_Mayek Mende_Kikakui Meroitic_Cursive Meroitic_Hieroglyphs Miao Modi Mongolian Mro Multani ' +
    'Myanmar Nabataean Nandinagari New_Tai_Lue Newa Nko Nushu Nyiakeng_Puachue_Hmong Ogham Ol_Chiki Old_Hungarian Old_Italic ' +
    'Old_North_Arabian Old_Permic Old_Persian Old_Sogdian Old_South_Arabian Old_Turkic Old_Uyghur Oriya Osage Osmanya Pahawh_Hmong ' +
    'Palmyrene Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi Rejang Runic Samaritan Saurashtra Sharada Shavian Siddham SignWriting ' +
    'Sinhala Sogdian Sora_Sompeng Soyombo Sundanese Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le Tai_Tham Tai_Viet Takri Tamil Tangsa ' +
    'Tangut Telugu Thaana Thai Tibetan Tifinagh Tirhuta Toto Ugaritic Vai Vithkuqi Wancho Warang_Citi Yezidi Yi Zanabazar_Square').split(' ');
for (const name of names) {
    const is = new RegExp(`^\\p{Script=${name}}$`, 'u');
    scripts[name] = [...points()].map(c => String.fromCodePoint(c)).filter(c => is.test(c));
    for (let k = 0; k < 3; k++) add(many(2, 5, () => pick(['', ' ', ' ', '\n', '.', 'a']) + many(1, 5, () => pick(scripts[name]))));
}

// combining marks, emoji
const marks = scripts.Inherited.slice(0, 200);
for (let k = 0; k < 150; k++) add(many(1, 4, () => pick([' ', 'a', 'É', 'Z', '1', '.', '\n', 'ю', '中', '']) + many(1, 3, () => pick(marks))));
const emoji = ['😀', '👍🏽', '👩‍👩‍👧‍👦', '🏳️‍🌈', '🇫🇷', '🇩🇪🇯🇵', '1️⃣', '#️⃣', '❤️', '☺', '✊🏿', '👨🏻‍🚀', '🏴󠁧󠁢󠁳󠁣󠁴󠁿', '™️', '🧑‍💻', '\u200d', '\ufe0f', '🫠', '🪿'];
for (const e of emoji) add(e), add('a' + e + 'b'), add(' ' + e + '\n');
for (let k = 0; k < 150; k++) add(many(1, 5, () => pick(emoji) + pick(['', '', ' ', 'x', '!', '\n'])));

// spaces and newlines
const space = [' ', ' ', ' ', '\n', '\n', '\r', '\r\n', '\t', '\v', '\f', '\x1c', '\x1f', '\x85', '\xa0', '\u1680', '\u180e', '\u2000', '\u2009', '\u200a', '\u200b',
    '\u200c', '\u2028', '\u2029', '\u202f', '\u205f', '\u2060', '\u3000', '\ufeff', '\0', '\x7f'];
for (const s of space) for (const t of ['a', ' a', 'a ', '\na', '.', '  ', 'A1']) add(s + t), add(t + s), add(s + s + t), add('x' + s + t);
for (let k = 0; k < 300; k++) add(many(1, 8, () => pick(space)) + pick(['', 'a', 'Ab', '1', '.', '/', 'é']) + many(0, 4, () => pick(space)));
for (let n = 1; n < 90; n += 3) add(' '.repeat(n)), add(' '.repeat(n) + 'x'), add('\n'.repeat(n) + 'x'), add('\t'.repeat(n) + 'x\n');

// contractions
const stem = ['I', 'it', 'DON', 'Don', 'ß', 'école', 'я', '中', '1', '', ' ', 'É', 'xX', '.', 'e\u0301', "rock'n"];
const suffix = ['s', 't', 're', 've', 'm', 'll', 'd', 'ſ', 'S', 'T', 'RE', 'Ve', 'M', 'lL', 'D', 'rE', 'x', 'sT', 'ſs', 'st', 'n', 'K', 'll3', 'd.'];
for (const a of stem) for (const b of suffix) add(a + "'" + b);
for (let k = 0; k < 200; k++) add(pick(stem) + pick(["'", '’', "''", " '", "'\n"]) + pick(suffix) + pick(['', ' ', 'a', "'", "'s", '\n']) + pick(stem));

// control characters, code, numbers, symbols
for (let k = 0; k < 150; k++) add(many(1, 6, () => String.fromCharCode(random(33) === 32 ? 127 : random(32)) + pick(['', 'a', ' ', '7'])));
for (let k = 0; k < 150; k++) add(many(1, 24, () => String.fromCharCode(32 + random(95))));
for (let k = 0; k < 100; k++) add(many(1, 6, () => pick(['//', '/', '\n', '\r\n', '};', '){', '==', '...', '----', '/*', ' ', '\t', '#', 'https://', 'www.', '_a', '$x', '->'])));
for (let n = 1; n < 14; n++) add('1234567890'.repeat(2).slice(0, n)), add('v' + '9'.repeat(n) + '.'), add('٣'.repeat(n)), add(' ' + '0'.repeat(n));
for (const s of ['if (a && b) {\n    return x[i]++; // done\n}\n', '#include <stdio.h>\nint main(void) { puts("hi\\n"); }\n', 'camelCaseAndHTTPServer2 snake_case_NAME kebab-case XMLHttpRequest',
    '{"key": [1, 2.5e-10, null], "naïve": "\\u00e9"}', '<a href="x.html?y=1&amp;z">T</a>', 'SELECT * FROM t WHERE a<>b;', '\\frac{a}{b} $x^{2}$', 'a@b.co https://x.org/p?q=1#f']) add(s), add(s + s);

// letters, marks and numbers of Unicode 15 and 16 (text/unicode16.def), where it matters that they are
const newer = [...fs.readFileSync(__dirname + '/../../text/unicode16.def', 'utf8').matchAll(/NEWER\((0x\w+), (0x\w+), /g)].map(m => [+m[1], +m[2]]);
for (const [low, high] of newer)
    for (const c of new Set([low, high])) for (const f of [c => 'a' + c + "'s " + c + "'LL", c => '1' + c + '23' + c + c + '4', c => '.' + c + '!' + c]) add(f(String.fromCodePoint(c)));

// any characters at all
const all = [...points()].filter(c => c < 0x323b0 || c > 0xe0000 && c < 0xe0200).map(c => String.fromCodePoint(c));
const pools = [all, all.slice(0, 0x800), all.slice(0, 0x3000), all.slice(0x2000, 0x2c00), all.slice(0x3000, 0x3400), all.slice(0xf000)];
for (let k = 0; k < 400; k++) { const p = pick(pools); add(many(1, 8, () => random(3) ? pick(p) : pick(['a', 'B', ' ', '1', "'s", '\n', '.', '文']))); }

// special tokens, as ids and as text
const named = added.map(a => a.content).filter(s => !s.includes('reserved'));
const near = ['<|', '|>', '<|end', '<|END|>', '<| end |>', '<|end|', '<<|end|>>', '<|end|>|>', '<|start|><|', '<|reserved_200018|>', '<|reserved_201088|>', '<|reserved_200000|>', '<|reserved_201087|>', '<|fim_prefix|>'];
for (const s of [...named, ...near]) for (const t of [s, 'a' + s, s + ' b', ' ' + s + '\n\n', s + s]) add(t), add(t, true);
for (let k = 0; k < 100; k++) add(many(1, 6, () => pick([pick(named), pick(near), 'user', ' hi', '\n', ' ', 'é', "'s"])), true);
add('<|start|>system<|message|>You are ChatGPT.\n\nReasoning: low<|end|><|start|>user<|message|>Hi!<|end|><|start|>assistant<|channel|>analysis<|message|>', true);

process.stdout.write(out.join('\n') + '\n');
